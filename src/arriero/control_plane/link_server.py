"""The control plane's end of a worker's link: a WebSocket that carries JSON lists of frames."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from arriero.control_plane.answers import answer
from arriero.core.core import Core
from arriero.core.links import Link
from arriero.types.errors import ArrieroError, ControlPlaneUnavailable, InternalError, ProtocolError
from arriero.types.link import (
    Answer,
    Bye,
    Call,
    Claim,
    CoreFrame,
    Emit,
    Grant,
    Hello,
    Journal,
    Outcome,
    Release,
    Report,
    Wait,
    Welcome,
    WorkerFrame,
    decode_worker_frames,
    messages,
)
from arriero.types.strict import error_answer

logger = logging.getLogger("arriero.control_plane")

RequestFrame = Claim | Emit | Report | Call | Journal | Wait | Release | Bye

#: WebSocket close codes: a policy was broken, or try again later.
BROKEN, LATER = 1008, 1013


def link_routes(core: Core) -> list[Route | WebSocketRoute]:
    """The link, and the renewal of a lease on a connection of its own."""

    async def link(socket: WebSocket) -> None:
        await LinkConnection(core, socket).run()

    async def renew(request: Request) -> Response:
        try:
            return answer({"lease": core.links.renew(request.path_params["worker_id"])})
        except ArrieroError as error:
            return error_answer(error)

    return [WebSocketRoute("/link", link), Route("/workers/{worker_id}/renew", renew, methods=["POST"])]


class LinkConnection:
    """One connection: a reader that starts a task for each request, and a writer that sends what has gathered."""

    def __init__(self, core: Core, socket: WebSocket) -> None:
        self._core = core
        self._socket = socket
        self._link: Link | None = None
        self._outgoing: list[CoreFrame] = []
        self._wake = asyncio.Event()
        self._requests: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve the connection until it closes."""
        await self._socket.accept()
        writer = asyncio.create_task(self._write(), name="writer of a link")
        try:
            self._link, welcome = await self._greet()
            self._send(welcome)
            while True:
                for frame in await self._receive():
                    self._start(frame)
        except WebSocketDisconnect:
            pass
        except ArrieroError as error:
            await self._refuse(error)
        finally:
            writer.cancel()
            for call in self._calls:  # its worker asks again over its next connection
                call.cancel()
            if self._link is not None:
                self._core.links.detach(self._link)

    async def _greet(self) -> tuple[Link, Welcome]:
        frames = await self._receive()
        if len(frames) != 1 or not isinstance(frames[0], Hello):
            raise ProtocolError("the first message of a link holds one hello frame")
        if not self._core.started:
            raise ControlPlaneUnavailable("the control plane is starting or stopping")
        return await self._core.links.attach(frames[0], self._send, local=False)

    async def _receive(self) -> list[WorkerFrame]:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        try:
            return decode_worker_frames(message.get("bytes") or message.get("text") or b"")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ProtocolError(f"a message of a link is a JSON list of frames: {error}") from error

    def _start(self, frame: WorkerFrame) -> None:
        if isinstance(frame, Hello):
            raise ProtocolError("a link says hello once")
        task = asyncio.create_task(self._serve(frame))
        (self._calls if isinstance(frame, Call) else self._requests).add(task)
        task.add_done_callback(partial(self._served, frame))

    def _served(self, frame: RequestFrame, task: asyncio.Task[None]) -> None:
        """Whatever went wrong, the worker is answered: it waits for that."""
        self._requests.discard(task)
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            what = type(frame).__name__.lower()
            logger.error("a %s of a link failed", what, exc_info=error)
            fault = InternalError(f"the control plane failed at a {what}: {type(error).__name__}; its log says where")
            self._send(Answer(request=frame.request, error=fault.info()))

    async def _serve(self, frame: RequestFrame) -> None:
        try:
            if isinstance(frame, Call):
                reply = Answer(request=frame.request, outcome=await self._call(frame))
            elif isinstance(frame, Wait):
                reply = Answer(request=frame.request, left=await self._wait(frame))
            else:
                reply = Answer(request=frame.request, grants=await self._do(frame))
        except ArrieroError as error:
            reply = Answer(request=frame.request, error=error.info())
        self._send(reply)

    async def _call(self, call: Call) -> Outcome:
        """Start the child, whatever becomes of the connection; then wait for its end while the connection lasts."""
        child_id = await self._core.kernel.background.whole(self._core.children.start(call), f"call of {call.service}")
        return await self._core.children.outcome(child_id)

    async def _wait(self, wait: Wait) -> bool:
        assert self._link is not None  # greeted before any request is served
        return await self._core.journals.wait(self._link, wait)

    async def _do(self, frame: Claim | Emit | Report | Journal | Release | Bye) -> list[Grant]:
        link, claims = self._link, self._core.claims
        assert link is not None  # greeted before any request is served
        match frame:
            case Report():
                await claims.report(link, frame)
                return await claims.claim_more(link, frame.free)
            case Claim():
                return await claims.claim(link, frame.free)
            case Emit():
                await claims.emit(link, frame.item_id, frame.token, frame.events)
            case Journal():
                await self._core.journals.write(link, frame)
            case Release():
                await claims.release(link, frame.tokens)
            case Bye():
                await self._core.links.leave(link)
        return []

    def _send(self, frame: CoreFrame) -> None:
        self._outgoing.append(frame)
        self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            frames, self._outgoing = self._outgoing, []
            try:
                for message in messages(frames):
                    await self._socket.send_bytes(message)
            except (WebSocketDisconnect, RuntimeError):
                return

    async def _refuse(self, error: ArrieroError) -> None:
        logger.warning("a link was refused: %s", error)
        code = LATER if error.retryable else BROKEN
        try:
            await self._socket.close(code, str(error)[:100])
        except RuntimeError:
            return
