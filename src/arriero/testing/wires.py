"""Links in memory: what a worker and a control plane send each other is written and read as over a network.

Each end of a :class:`Wire` looks like a WebSocket of the library that the real end uses. What is sent arrives in its
order, after a ``delay`` that the network decides on, unless the wire is cut first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import aiohttp
from starlette.websockets import WebSocket

from arriero.control_plane.link_server import LinkConnection
from arriero.core.core import Core
from arriero.services.link import Socket, WebSocketLink
from arriero.types.errors import ControlPlaneUnavailable, Fenced
from arriero.types.link import Hello, OnOpen, Push, Welcome

#: Seconds until a message arrives.
Delay = Callable[[], float]
NORMAL, GONE = 1000, 1006


def at_once() -> float:
    """The delay of a network that has none."""
    return 0.0


class Pipe:
    """One direction of a wire."""

    def __init__(self, delay: Delay) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[bytes | None] = deque()
        self._arrived: deque[bytes | None] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._last = 0.0
        self._is_cut = self._stands = False

    def send(self, data: bytes | None) -> None:
        """Send a message, or the end."""
        if self._is_cut:
            return
        delay = self._delay()
        if not delay and not self._under_way:
            self._arrive(data)
            return
        self._last = max(self._last, self._loop.time() + delay)
        self._under_way.append(data)
        self._loop.call_at(self._last, self._next_arrives)

    async def read(self) -> bytes | None:
        """The next message; None at the end."""
        while self._stands or not self._arrived:
            if self._is_cut:
                return None
            self._reader = self._loop.create_future()
            await self._reader
        return self._arrived.popleft()

    def stand(self, still: bool) -> None:
        """Whether what arrives is kept from the reader for now."""
        self._stands = still
        self._wake()

    def cut(self) -> None:
        """Nothing arrives any more, and the reader is told."""
        self._is_cut = True
        self._arrived.clear()
        self._wake()

    def _next_arrives(self) -> None:
        self._arrive(self._under_way.popleft())

    def _arrive(self, data: bytes | None) -> None:
        if not self._is_cut:
            self._arrived.append(data)
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Wire:
    """One connection."""

    def __init__(self, delay: Delay) -> None:
        self.up, self.down = Pipe(delay), Pipe(delay)
        self.worker, self.core = WorkerEnd(self), CoreEnd(self)

    def stand(self, still: bool) -> None:
        """Whether nothing is read on either end for now, though the connection is open."""
        self.up.stand(still)
        self.down.stand(still)

    def cut(self) -> None:
        """Drop the connection with all that is under way."""
        self.up.cut()
        self.down.cut()


class WorkerEnd:
    """The worker's end, as aiohttp shows a WebSocket."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.close_code: int | None = None

    async def send_bytes(self, data: bytes) -> None:
        self._wire.up.send(data)

    async def receive(self) -> aiohttp.WSMessage:
        data = await self._wire.down.read()
        if data is None:
            return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)
        return aiohttp.WSMessage(aiohttp.WSMsgType.BINARY, data, None)


class CoreEnd:
    """The control plane's end, as Starlette shows a WebSocket."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def accept(self) -> None:
        """It is open from the start."""

    async def receive(self) -> dict[str, Any]:
        data = await self._wire.up.read()
        if data is None:
            return {"type": "websocket.disconnect", "code": GONE}
        return {"type": "websocket.receive", "bytes": data}

    async def send_bytes(self, data: bytes) -> None:
        self._wire.down.send(data)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        self._wire.worker.close_code = code
        self._wire.down.send(None)


class Network:
    """Where workers find the control plane, while there is one."""

    def __init__(self, delay: Delay = at_once) -> None:
        self.core: Core | None = None
        self._delay = delay
        self._serving: dict[Wire, asyncio.Task[None]] = {}

    def dial(self) -> Wire:
        """A new connection. Errors: ``ControlPlaneUnavailable``."""
        if self.core is None:
            raise ControlPlaneUnavailable("there is no control plane now")
        wire = Wire(self._delay)
        connection = LinkConnection(self.core, cast("WebSocket", wire.core))
        serving = asyncio.get_running_loop().create_task(connection.run(), name="link in memory")
        self._serving[wire] = serving
        serving.add_done_callback(lambda _: self._serving.pop(wire, None))
        return wire

    async def cut_all(self) -> None:
        """Drop every connection, and wait until the control plane has noticed."""
        serving = list(self._serving.values())
        for wire in list(self._serving):
            wire.cut()
        await asyncio.gather(*serving, return_exceptions=True)


class WiredLink(WebSocketLink):
    """A worker's real link, over a network in memory. It renews its lease by the loop's own time.

    A link that is ``cut`` sends and hears nothing, and does not come back before it is mended: as of a worker that was
    killed, or whose machine stands still.
    """

    def __init__(self, network: Network) -> None:
        super().__init__("http://in-memory")
        self._network = network
        self._wire: Wire | None = None
        self._mended = asyncio.Event()
        self._mended.set()
        self._stands = False
        self._renewing: asyncio.Task[None] | None = None
        self._every = 0.0
        self._worker_id = ""

    async def open(self, hello: Callable[[], Hello], on_push: Callable[[Push], None], on_open: OnOpen) -> None:
        def greeting() -> Hello:
            said = hello()
            self._worker_id = said.worker_id
            return said

        def opened(welcome: Welcome) -> None:
            self._every, welcome.renew_every = welcome.renew_every, 0.0  # the worker's own thread is not needed
            on_open(welcome)

        self._renewing = asyncio.get_running_loop().create_task(self._renew(), name="renewals of a link in memory")
        await super().open(greeting, on_push, opened)

    def drop(self) -> None:
        """Lose the connection; it comes back by itself."""
        if self._wire is not None:
            self._wire.cut()

    def stand(self) -> None:
        """Nothing comes through and no lease is renewed until it is mended, though the connection stays."""
        self._stands = True
        if self._wire is not None:
            self._wire.stand(still=True)

    def cut(self) -> None:
        """Lose the connection until it is mended."""
        self._mended.clear()
        self.drop()

    def mend(self) -> None:
        """It may come back, or goes on."""
        self._mended.set()
        self._stands = False
        if self._wire is not None:
            self._wire.stand(still=False)

    async def aclose(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        if not self._mended.is_set():
            self._opened.clear()  # nobody hears a goodbye
        await super().aclose()

    async def _connected(self, session: aiohttp.ClientSession) -> None:
        await self._mended.wait()
        self._wire = wire = self._network.dial()
        try:
            await self._converse(cast("Socket", wire.worker))
        finally:
            wire.cut()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._every or 1.0)
            core = self._network.core
            if core is None or not core.started or self._stands or not self._mended.is_set():
                continue
            try:
                core.links.renew(self._worker_id)
            except Fenced:
                continue  # it is told when it has connected again
