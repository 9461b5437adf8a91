"""The server's end of a connection that a client keeps open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from arriero.message_queues.encoding import decode_message, encode_message
from arriero.message_queues.memory import MemoryMessageQueue
from arriero.message_queues.simple import frames
from arriero.message_queues.topics import MIB, Outlet
from arriero.types.errors import ArrieroError, InvalidInput
from arriero.types.messages import QueueMessage

logger = logging.getLogger(__name__)

#: Frames that wait for a slow client before nothing more is read from it.
BACKLOG = 10_000
#: Subscriptions of one connection.
SUBSCRIPTIONS = 10_000
#: Most bytes of dead letters in one answer.
LETTERS = 4 * MIB
#: Seconds after which a client that takes nothing of what is sent to it is taken for dead.
STALLED = 60.0
#: The WebSocket status for a message that breaks the protocol.
POLICY_VIOLATION = 1008


class Peer:
    """Reads a client's frames, and writes its deliveries and answers in batches."""

    def __init__(self, queue: MemoryMessageQueue, websocket: WebSocket) -> None:
        self._queue = queue
        self._websocket = websocket
        self._outlets: dict[int, Outlet] = {}
        self._outbox: list[frames.ServerFrame] = []
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._handlers: dict[type, Callable[[Any], None]] = {
            frames.Publish: self._publish,
            frames.Subscribe: self._subscribe,
            frames.Unsubscribe: self._unsubscribe,
            frames.Ack: self._ack,
            frames.Nack: self._nack,
            frames.Reject: self._reject,
            frames.Depth: self._depth,
            frames.Letters: self._letters,
            frames.Flush: self._flush,
        }

    async def run(self) -> None:
        """Serve the connection until it closes; then what it held is put back."""
        await self._websocket.accept()
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(), name="queue connection reader")
                writer = group.create_task(self._write(), name="queue connection writer")
                reader.add_done_callback(lambda _: writer.cancel())
                writer.add_done_callback(lambda _: reader.cancel())
        finally:
            for outlet in self._outlets.values():
                outlet.close()

    async def _read(self) -> None:
        while True:
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                return
            try:
                received = frames.decode_client_frames(event.get("bytes") or event.get("text") or b"")
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                logger.warning("A client of the message queue sent what is no list of frames: %s", error)
                await self._websocket.close(POLICY_VIOLATION, "not a list of frames")
                return
            for frame in received:
                self._handlers[type(frame)](frame)
            while len(self._outbox) > BACKLOG:
                self._emptied.clear()
                await self._emptied.wait()

    async def _write(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, TimeoutError, RuntimeError):  # the last: the reader has closed it
            while True:
                await self._filled.wait()
                self._filled.clear()
                outbox, self._outbox = self._outbox, []
                for batch in frames.batches(outbox):
                    async with asyncio.timeout(STALLED):
                        await self._websocket.send_bytes(batch)
                self._emptied.set()

    def _send(self, frame: frames.ServerFrame) -> None:
        self._outbox.append(frame)
        self._filled.set()

    def _publish(self, frame: frames.Publish) -> None:
        error = None
        try:
            body = readable_body(self._queue, frame.topic, bytes(frame.message))
            self._queue.put(body, frame.topic, transient=frame.transient)
        except ArrieroError as refusal:
            error = refusal.info()
        if frame.request:
            self._send(frames.Answer(frame.request, error))

    def _subscribe(self, frame: frames.Subscribe) -> None:
        number = frame.subscription
        error = None
        try:
            if number in self._outlets or len(self._outlets) >= SUBSCRIPTIONS:
                raise InvalidInput(f"Subscription {number} is open already, or there are more than {SUBSCRIPTIONS}.")
            self._outlets[number] = self._queue.attach(
                frame.topic,
                frame.prefetch,
                lambda tag, body: self._send(frames.Deliver(number, tag, msgspec.Raw(body))),
            )
        except ArrieroError as refusal:
            error = refusal.info()
        self._send(frames.Answer(frame.request, error))

    def _unsubscribe(self, frame: frames.Unsubscribe) -> None:
        if outlet := self._outlets.pop(frame.subscription, None):
            outlet.close()
        self._send(frames.Answer(frame.request))

    def _ack(self, frame: frames.Ack) -> None:
        if outlet := self._outlets.get(frame.subscription):
            outlet.ack(frame.tag)

    def _nack(self, frame: frames.Nack) -> None:
        if outlet := self._outlets.get(frame.subscription):
            outlet.nack(frame.tag, frame.delay)

    def _reject(self, frame: frames.Reject) -> None:
        if outlet := self._outlets.get(frame.subscription):
            outlet.reject(frame.tag, frame.reason)

    def _depth(self, frame: frames.Depth) -> None:
        self._send(frames.Answer(frame.request, depth=self._queue.depth_of(frame.topic)))

    def _letters(self, frame: frames.Letters) -> None:
        room, letters = LETTERS, []
        for letter in reversed(self._queue.dead_letters_of(frame.topic)):
            room -= len(letter.body)
            if room < 0:
                break
            letters.append(frames.Letter(letter.body, letter.reason))
        self._send(frames.Answer(frame.request, letters=letters[::-1]))

    def _flush(self, frame: frames.Flush) -> None:
        self._send(frames.Answer(frame.request))


def readable_body(queue: MemoryMessageQueue, topic: str, body: bytes) -> bytes:
    """The body of a message, with an id in it; what cannot be read is dead-lettered. Errors: ``InvalidInput``."""
    try:
        message: QueueMessage = decode_message(body)
    except InvalidInput as error:
        queue.bury(topic, body, error.message)
        raise
    return body if "id_" in message.model_fields_set else encode_message(message)
