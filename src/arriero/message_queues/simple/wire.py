"""The connection that a client of the simple message queue keeps open, and heals by itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import msgspec

from arriero.message_queues.deliveries import DeadLetter
from arriero.message_queues.encoding import decode_message, encode_message
from arriero.message_queues.http import ClientOptions
from arriero.message_queues.inbox import Inbox
from arriero.message_queues.simple import frames
from arriero.message_queues.simple.config import SimpleMessageQueueConfig
from arriero.types.credentials import refusal
from arriero.types.errors import (
    ArrieroError,
    ConfigurationError,
    InvalidInput,
    PayloadTooLarge,
    QueueUnavailable,
    error_from_info,
)
from arriero.types.messages import QueueMessage

if TYPE_CHECKING:
    import aiohttp

logger = logging.getLogger(__name__)

#: Seconds that a call waits for an absent server.
PATIENCE = 3.0
#: Seconds that the first transient message waits for the connection.
TRANSIENT_PATIENCE = 0.5
#: Seconds between attempts to connect: the first, and the longest.
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 2.0
#: Seconds between pings.
HEARTBEAT = 20.0
#: Frames that wait to be sent before transient messages are dropped.
BACKLOG = 10_000


class Wire:
    """One connection to a server, on one event loop. It connects when it is first needed, and again after a loss.

    After a reconnect the subscriptions stand again, and the calls that were not answered are repeated. A server that
    stops answering pings counts as a loss.
    """

    def __init__(self, config: SimpleMessageQueueConfig) -> None:
        self._config = config
        self._options = ClientOptions.read(config.client_kwargs)
        self.address = config.base_url
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._subscriptions: dict[int, WireSubscription] = {}
        self._outbox: list[frames.ClientFrame] = []
        self._filled = asyncio.Event()
        self._online = asyncio.Event()
        self._wanted = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._trouble: BaseException | None = None
        self._warned = False
        #: Whether the present connection brought anything; one that did not is no sign of health.
        self._heard = False
        #: The subscriptions that a reconnect repeats, by the number of the request.
        self._again: dict[int, WireSubscription] = {}
        #: Counts connections: what an older one delivered has been put back by the server.
        self.connection = 0

    async def publish(self, message: QueueMessage, topic: str, *, transient: bool) -> None:
        """Send a message; one that is not transient is confirmed by the server."""
        body = encode_message(message)
        if len(body) > self._config.max_message:
            raise PayloadTooLarge(
                f"A message of {len(body)} bytes for topic {topic}; the limit (max_message) is "
                f"{self._config.max_message}."
            )
        if transient:
            await self._reach()
            if len(self._outbox) < BACKLOG:
                self.cast(frames.Publish(topic, msgspec.Raw(body), transient=True))
        else:
            await self.call(lambda number: frames.Publish(topic, msgspec.Raw(body), number))

    async def subscribe(self, topic: str, prefetch: int) -> WireSubscription:
        """Subscribe, waiting for the server as long as it takes."""
        subscription = WireSubscription(self, next(self._numbers), topic, prefetch)
        self._subscriptions[subscription.number] = subscription
        try:
            await self.call(subscription.frame, patient=True)
        except BaseException:
            self._subscriptions.pop(subscription.number, None)
            raise
        return subscription

    async def unsubscribe(self, subscription: WireSubscription) -> None:
        """End a subscription; what it held has been put back when this returns, if there is a connection."""
        if self._subscriptions.pop(subscription.number, None) is not None:
            await self._finish(lambda number: frames.Unsubscribe(number, subscription.number))

    async def depth(self, topic: str) -> int:
        """How many messages wait."""
        return (await self.call(lambda number: frames.Depth(number, topic))).depth

    async def dead_letters(self, topic: str) -> list[DeadLetter]:
        """What was given up."""
        answer = await self.call(lambda number: frames.Letters(number, topic))
        return [DeadLetter(topic, letter.body, letter.reason) for letter in answer.letters]

    async def aclose(self) -> None:
        """Send what waits to be sent, then end the subscriptions and the connection."""
        for subscription in list(self._subscriptions.values()):
            await subscription.aclose()
        await self._finish(frames.Flush)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    async def call(
        self, frame: Callable[[int], frames.Request], *, patient: bool = False, last: bool = False
    ) -> frames.Answer:
        """Send a frame with a number, and wait for its answer; see :class:`Call`."""
        call = Call(frame(next(self._numbers)), self.address, patient=patient, last=last)
        self._calls[call.number] = call
        self._ensure()
        if self._online.is_set():
            self.cast(call.frame)
        else:
            call.wait(self._trouble)
            self._wanted.set()
        try:
            return await call.answer
        finally:
            call.sent()
            del self._calls[call.number]

    def cast(self, frame: frames.ClientFrame) -> None:
        """Send a frame on the present connection; without one it is forgotten."""
        if self._online.is_set():
            self._outbox.append(frame)
            self._filled.set()

    async def _finish(self, frame: Callable[[int], frames.Request]) -> None:
        """A last call, which a connection that is away makes needless."""
        if self._online.is_set():
            with contextlib.suppress(QueueUnavailable):
                await self.call(frame, last=True)

    async def _reach(self) -> None:
        """Wait a moment for the first connection; while the server is known to be away, do not."""
        if self._online.is_set():
            return
        self._ensure()
        if self._trouble is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRANSIENT_PATIENCE):
                    await self._online.wait()
        if not self._online.is_set():
            raise unavailable(self.address, self._trouble)

    def _ensure(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(), name=f"connection to {self.address}")

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        try:
            async with self._options.session() as session:
                while True:
                    self._heard = False
                    await self._connect(session)
                    pause = FIRST_PAUSE if self._heard else min(pause * 2, LONGEST_PAUSE)
                    await self._rest(pause)
        finally:
            for call in self._calls.values():
                call.fail()
            for subscription in self._subscriptions.values():
                subscription.end()

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        import aiohttp

        limit = 2 * (self._config.max_message + frames.OVERHEAD)
        try:
            headers = self._options.authorized(self.address)
            async with session.ws_connect(
                f"{self.address}connect", heartbeat=HEARTBEAT, max_msg_size=limit, headers=headers
            ) as websocket:
                await self._talk(websocket)
            self._lost(ConnectionError("the connection was closed"))
        except ConfigurationError as error:
            self._refused(error)
            self._lost(error)
        except aiohttp.WSServerHandshakeError as error:
            self._refused(refusal(error.status, f"the message queue at {self.address}"))
            self._lost(error)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
            self._lost(error)

    async def _rest(self, pause: float) -> None:
        """Wait before the next attempt; a new call ends the wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):  # noqa: S311 jitter is no secret
                await self._wanted.wait()
        self._wanted.clear()

    async def _talk(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._greet()
        writer = asyncio.create_task(self._write(websocket), name=f"writer to {self.address}")
        try:
            async for received in websocket:
                if isinstance(received.data, bytes | str):
                    for frame in frames.decode_server_frames(received.data):
                        self._take(frame)
        finally:
            self._online.clear()
            writer.cancel()
            await asyncio.wait({writer})

    def _greet(self) -> None:
        """Make the subscriptions stand, and repeat the calls that were not answered."""
        if self._warned:
            logger.info("The message queue at %s answers again", self.address)
        self.connection += 1
        self._trouble, self._warned = None, False
        waiting = [call.frame for call in self._calls.values()]
        new = {frame.subscription for frame in waiting if isinstance(frame, frames.Subscribe)}
        again = [one for one in self._subscriptions.values() if one.number not in new]
        self._again = {next(self._numbers): one for one in again}
        self._outbox = [*(one.frame(number) for number, one in self._again.items()), *waiting]
        for call in self._calls.values():
            call.sent()
        self._filled.set()
        self._online.set()

    async def _write(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                outbox, self._outbox = self._outbox, []
                for batch in frames.batches(outbox):
                    await websocket.send_bytes(batch)
        except ConnectionError:
            self._online.clear()

    def _take(self, frame: frames.ServerFrame) -> None:
        self._heard = True
        if isinstance(frame, frames.Deliver):
            if subscription := self._subscriptions.get(frame.subscription):
                subscription.deliver(frame)
        elif call := self._calls.get(frame.request):
            call.take(frame)
        elif (subscription := self._again.pop(frame.request, None)) and frame.error is not None:
            subscription.end(error_from_info(frame.error))

    def _refused(self, refusal: ArrieroError | None) -> None:
        """No waiting helps a call that is refused; subscriptions that stood before are kept for better times."""
        if refusal is not None:
            for call in self._calls.values():
                call.refuse(refusal)

    def _lost(self, error: BaseException) -> None:
        if not self._warned and (self._subscriptions or self._calls):
            logger.warning("The message queue at %s does not answer; trying again: %s", self.address, error)
            self._warned = True
        self._trouble = error
        for subscription in self._subscriptions.values():
            subscription.forget()
        for call in self._calls.values():
            call.wait(error)


class Call:
    """A frame that is to be answered.

    While there is no connection it has ``PATIENCE``; a patient one has no limit, a last one fails at once.
    """

    def __init__(self, frame: frames.Request, address: str, *, patient: bool, last: bool) -> None:
        self.frame = frame
        self.number = frame.request
        self.answer: asyncio.Future[frames.Answer] = asyncio.get_running_loop().create_future()
        self._address = address
        self._patient = patient
        self._last = last
        self._trouble: BaseException | None = None
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, trouble: BaseException | None) -> None:
        """The connection is away: count the time, if that is not done already."""
        self._trouble = trouble
        if self._timer is None and not self._patient:
            self._timer = self.answer.get_loop().call_later(0.0 if self._last else PATIENCE, self.fail)

    def sent(self) -> None:
        """The connection is there: stop counting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self, answer: frames.Answer) -> None:
        """Pass on what the server said."""
        if self.answer.done():
            return
        if answer.error is None:
            self.answer.set_result(answer)
        else:
            self.answer.set_exception(error_from_info(answer.error))

    def refuse(self, refusal: ArrieroError) -> None:
        """Pass on that the server takes nothing from this process."""
        if not self.answer.done():
            self.answer.set_exception(refusal)

    def fail(self) -> None:
        """Pass on that the server does not answer."""
        if not self.answer.done():
            self.answer.set_exception(unavailable(self._address, self._trouble))


class WireSubscription:
    """A subscription that outlives connections: what an older one delivered is delivered again."""

    def __init__(self, wire: Wire, number: int, topic: str, prefetch: int) -> None:
        self.number = number
        self._wire = wire
        self._topic = topic
        self._prefetch = prefetch
        self._inbox: Inbox[WireDelivery] = Inbox()

    def frame(self, request: int) -> frames.Subscribe:
        """The frame that makes the subscription stand."""
        return frames.Subscribe(request, self.number, self._topic, self._prefetch)

    def deliver(self, frame: frames.Deliver) -> None:
        """Take a delivery in."""
        try:
            message = decode_message(bytes(frame.message))
        except InvalidInput as error:
            self._wire.cast(frames.Reject(self.number, frame.tag, error.message))
        else:
            self._inbox.put(WireDelivery(self, self._wire.connection, frame.tag, message))

    def settle(self, connection: int, frame: frames.ClientFrame) -> None:
        """Settle a delivery, unless it was put back with the connection that brought it."""
        if connection == self._wire.connection:
            self._wire.cast(frame)

    def forget(self) -> None:
        """The connection was lost, and with it the right to what was not taken."""
        self._inbox.clear()

    def end(self, error: BaseException | None = None) -> None:
        """End the iteration, with an error or without."""
        self._inbox.close(error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WireDelivery:
        return await self._inbox.__anext__()

    async def aclose(self) -> None:
        self._inbox.close()
        await self._wire.unsubscribe(self)


class WireDelivery:
    """One arrival over a connection."""

    __slots__ = ("_connection", "_open", "_subscription", "_tag", "message")

    def __init__(self, subscription: WireSubscription, connection: int, tag: int, message: QueueMessage) -> None:
        self.message = message
        self._subscription = subscription
        self._connection = connection
        self._tag = tag
        self._open = True

    async def ack(self) -> None:
        self._settle(frames.Ack(self._subscription.number, self._tag))

    async def nack(self, delay: float = 0.0) -> None:
        self._settle(frames.Nack(self._subscription.number, self._tag, delay))

    async def reject(self, reason: str) -> None:
        self._settle(frames.Reject(self._subscription.number, self._tag, reason))

    def _settle(self, frame: frames.ClientFrame) -> None:
        if self._open:
            self._open = False
            self._subscription.settle(self._connection, frame)


def unavailable(address: str, trouble: BaseException | None) -> QueueUnavailable:
    """The error for a server that does not answer."""
    error = QueueUnavailable(f"The message queue at {address} does not answer: {trouble or 'not connected yet'}")
    error.__cause__ = trouble
    return error
