"""A worker's end of its link to a control plane in another process: one WebSocket that comes back by itself."""

from __future__ import annotations

import asyncio
import http
import http.client
import json
import logging
import random
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from arriero.client.transport import trouble_of
from arriero.types.credentials import bearer_headers, refusal
from arriero.types.errors import (
    ArrieroError,
    ControlPlaneUnavailable,
    Fenced,
    InvalidInput,
    ProtocolError,
    Refused,
    error_from_info,
)
from arriero.types.link import (
    LARGEST_MESSAGE,
    Answer,
    Bye,
    Call,
    Claim,
    CoreFrame,
    Deliver,
    Emit,
    Event,
    Grant,
    Granted,
    Hello,
    Journal,
    OnOpen,
    Outcome,
    Push,
    Release,
    Report,
    Stop,
    Wait,
    Welcome,
    WorkerFrame,
    decode_core_frames,
    encode_frames,
    messages,
)

logger = logging.getLogger("arriero.services")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
#: How long the worker waits for the answer to its goodbye, and for a renewal, in seconds.
PATIENCE = 2.0


class Socket(Protocol):
    """What is used of a WebSocket."""

    @property
    def close_code(self) -> int | None: ...

    async def receive(self) -> aiohttp.WSMessage: ...

    async def send_bytes(self, data: bytes) -> None: ...


class WebSocketLink:
    """A :class:`~arriero.types.link.ControlPlaneLink` over the network.

    Requests are kept until they are answered and sent again after a reconnect, in order.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._pending: dict[int, WorkerFrame] = {}
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._outgoing: list[WorkerFrame] = []
        self._wake = asyncio.Event()
        self._opened = asyncio.Event()
        self._welcomed = False
        self._next = 0
        self._keeper: asyncio.Task[None] | None = None

    async def open(self, hello: Callable[[], Hello], on_push: Callable[[Push], None], on_open: OnOpen) -> None:
        self._hello, self._on_push, self._on_open = hello, on_push, on_open
        self._keeper = asyncio.create_task(self._keep(), name=f"link to {self.url}")
        opened = asyncio.create_task(self._opened.wait())
        try:
            await asyncio.wait({self._keeper, opened}, return_when=asyncio.FIRST_COMPLETED)
            if self._keeper.done():
                await self._keeper
        finally:
            opened.cancel()

    async def claim(self, free: int) -> list[Grant]:
        return (await self._request(Claim(request=self._number(), free=free))).grants

    async def emit(self, item_id: str, token: str, events: list[Event]) -> None:
        await self._request(Emit(request=self._number(), item_id=item_id, token=token, events=events))

    async def report(self, report: Report) -> list[Grant]:
        report.request = self._number()
        return (await self._request(report)).grants

    async def call(self, call: Call) -> Outcome:
        call.request = self._number()
        outcome = (await self._request(call)).outcome
        if outcome is None:
            raise ProtocolError(f"the control plane at {self.url} answers a call without its outcome")
        return outcome

    async def journal(self, journal: Journal) -> None:
        journal.request = self._number()
        await self._request(journal)

    async def wait(self, wait: Wait) -> bool:
        wait.request = self._number()
        return (await self._request(wait)).left

    async def release(self, tokens: dict[str, str]) -> None:
        await self._request(Release(request=self._number(), tokens=tokens))

    def renew(self, worker_id: str) -> float:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=PATIENCE)
        try:
            target = f"{parts.path}/workers/{quote(worker_id, safe='')}/renew"
            connection.request("POST", target, headers=bearer_headers(self.url))
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ControlPlaneUnavailable(f"the control plane at {self.url} does not answer: {error}") from error
        finally:
            connection.close()
        if (refused := refusal(response.status, f"the control plane at {self.url}")) is not None:
            raise refused
        if response.status != http.HTTPStatus.OK:
            raise Fenced(f"the control plane at {self.url} does not know worker {worker_id}")
        return float(json.loads(body)["lease"])

    async def aclose(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if self._opened.is_set() and not keeper.done():
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._request(Bye(request=self._number()))
            except (TimeoutError, ArrieroError):
                logger.info("left the control plane at %s without a goodbye", self.url)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ControlPlaneUnavailable("the link was closed"))
                answer.exception()

    def _number(self) -> int:
        self._next += 1
        return self._next

    async def _request(self, frame: Report | Claim | Emit | Call | Journal | Wait | Release | Bye) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[frame.request] = frame
        self._answers[frame.request] = answer
        self._outgoing.append(frame)
        self._wake.set()
        try:
            return await answer
        finally:
            self._pending.pop(frame.request, None)
            self._answers.pop(frame.request, None)

    async def _keep(self) -> None:
        """Connect, again and again, until cancelled."""
        pause, warned = FIRST_PAUSE, False
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._connected_or_refused(session)
                    pause, warned = FIRST_PAUSE, False
                except (aiohttp.ClientError, OSError, TimeoutError, ControlPlaneUnavailable) as error:
                    if not warned and pause >= LONGEST_PAUSE:
                        reason = trouble_of(error).reason
                        logger.warning(
                            "Waiting for the control plane at %s, which %s: trying until it answers.", self.url, reason
                        )
                        warned = True
                except (ProtocolError, Refused) as error:
                    if not self._welcomed:
                        raise
                    logger.error("%s; trying again", error)  # noqa: TRY400  # what it says is all there is
                    pause = LONGEST_PAUSE
                finally:
                    self._opened.clear()
                await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311  # the pause between connections
                pause = min(LONGEST_PAUSE, pause * 2)

    async def _connected_or_refused(self, session: aiohttp.ClientSession) -> None:
        try:
            await self._connected(session)
        except aiohttp.WSServerHandshakeError as error:
            if (refused := refusal(error.status, f"the control plane at {self.url}")) is None:
                raise
            raise refused from error

    async def _connected(self, session: aiohttp.ClientSession) -> None:
        """One connection, until it closes."""
        headers = bearer_headers(self.url)
        async with session.ws_connect(
            f"{self.url}/link", max_msg_size=LARGEST_MESSAGE, compress=0, headers=headers
        ) as socket:
            await self._converse(socket)

    async def _converse(self, socket: Socket) -> None:
        await socket.send_bytes(encode_frames([self._hello()]))
        self._greeted(await self._receive(socket))
        writer = asyncio.create_task(self._write(socket), name="writer of a link")
        try:
            while frames := await self._receive(socket):
                for frame in frames:
                    self._take(frame)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _greeted(self, frames: list[CoreFrame]) -> None:
        if not frames:
            raise ControlPlaneUnavailable("it closed the link at once")
        welcome, *others = frames
        if not isinstance(welcome, Welcome):
            raise ProtocolError("a control plane answers hello with welcome")
        self._outgoing = list(self._pending.values())
        self._on_open(welcome)
        self._wake.set()
        self._opened.set()
        self._welcomed = True
        for frame in others:
            self._take(frame)

    async def _receive(self, socket: Socket) -> list[CoreFrame]:
        """The next frames; none when the connection has closed."""
        message = await socket.receive()
        if message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            if socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION:
                raise ProtocolError(f"the control plane at {self.url} refused the link: {message.extra}")
            return []
        try:
            return decode_core_frames(message.data)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"the control plane at {self.url} sent what is no frame: {error}") from error

    def _take(self, frame: CoreFrame) -> None:
        if isinstance(frame, Stop | Deliver | Granted):
            self._on_push(frame)
        elif isinstance(frame, Answer):
            answer = self._answers.get(frame.request)
            if answer is None or answer.done():
                return
            if frame.error is not None:
                answer.set_exception(error_from_info(frame.error))
            else:
                answer.set_result(frame)

    async def _write(self, socket: Socket) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            frames, self._outgoing = self._outgoing, []
            for message in self._messages(frames):
                await socket.send_bytes(message)

    def _messages(self, frames: list[WorkerFrame]) -> list[bytes]:
        """The messages to send. A frame that cannot be written fails its own request and no other."""
        try:
            return messages(frames) if frames else []
        except (TypeError, ValueError, RecursionError) as error:
            if len(frames) > 1:
                return [message for frame in frames for message in self._messages([frame])]
            [frame] = frames
            answer = self._answers.get(frame.request) if not isinstance(frame, Hello) else None
            if answer is not None and not answer.done():
                answer.set_exception(InvalidInput(f"a frame of the link cannot be written: {error}"))
            return []
