"""A control plane of the test's own making, on a real socket: the test says what each request gets."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from arriero.types.errors import ArrieroError, ErrorInfo
from arriero.types.settings import ControlPlaneConfig


@dataclass
class Call:
    """One request, and the ways to answer it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    transport: asyncio.Transport = field(repr=False)
    gone: asyncio.Event = field(repr=False)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def reply(self, value: Any, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(value).encode(), status, **headers)

    def send(
        self,
        body: bytes,
        status: int = 200,
        kind: str = "application/json",
        declared: int | None = None,
        **headers: str,
    ) -> None:
        length = len(body) if declared is None else declared
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
        self.transport.write(head.encode() + body)

    def refuse(self, error: ArrieroError) -> None:
        status, body = answer_of(error)
        self.send(body, status)

    def result(self, text: str = "hello") -> None:
        self.reply(result(self.json["task_id"], text))

    def later(self) -> None:
        self.reply({"task_id": "T", "status": "queued"}, 202)

    def begin_events(self) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    def chunk(self, data: bytes) -> None:
        self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, seq: int, data: dict[str, Any]) -> None:
        self.entry(seq, "event", {"kind": "event", "type": "Progress", "data": data})

    def end(self, seq: int, status: str = "completed", error: dict[str, Any] | None = None) -> None:
        self.entry(seq, "end", {"kind": "end", "status": status, "error": error})
        self.chunk(b"")

    def entry(self, seq: int, kind: str, data: dict[str, Any]) -> None:
        self.chunk(f"id: {seq}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode())

    def drop(self) -> None:
        """Close the connection once what was said has been sent."""
        self.transport.close()


Answer = Callable[[Call], Awaitable[None]]


class Plane:
    """Serves while it is entered; :meth:`stop` and :meth:`start` are a restart on the same port."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.connections = 0
        self.open: set[Connection] = set()
        self.faults: list[BaseException] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def config(self) -> ControlPlaneConfig:
        return ControlPlaneConfig(port=self.port)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.stop()
        if self.faults:
            raise self.faults[0]

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        assert self._server is not None
        self._server.close()
        for connection in list(self.open):
            connection.transport.abort()
        while self.open:
            await next(iter(self.open)).gone.wait()
        await self._server.wait_closed()


class Connection(asyncio.Protocol):
    """One connection: its requests are answered one after the other, and given up when it is lost."""

    transport: asyncio.Transport

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._data = b""
        self._task: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._plane.open.add(self)
        self._plane.connections += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._plane.open.discard(self)
        self.gone.set()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        request, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        method, target, _ = request.split(" ")
        self._data = rest[length:]
        call = Call(method, target, headers, rest[:length], self.transport, self.gone)
        self._plane.calls.append(call)
        self._task = asyncio.create_task(self._answer(call))

    async def _answer(self, call: Call) -> None:
        try:
            await self._plane.answer(call)
        except Exception as error:  # noqa: BLE001 - the test's own fault, which it shall see at its end
            self._plane.faults.append(error)
            self.transport.abort()


class PlaneInThread:
    """A plane with a loop of its own, for clients in other loops and other processes."""

    def __init__(self, answer: Answer) -> None:
        self._started: Future[Plane] = Future()
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(answer)))

    def __enter__(self) -> Plane:
        self._thread.start()
        return self._started.result(10)

    def __exit__(self, *raised: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self, answer: Answer) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        async with Plane(answer) as plane:
            self._started.set_result(plane)
            await self._stop.wait()


def answer_of(error: ArrieroError) -> tuple[int, bytes]:
    """An error as the control plane answers it: the status and the body."""
    info = error.info()
    fields = {name: getattr(info, name) for name in ErrorInfo.__struct_fields__}
    return error.status, json.dumps({"detail": info.message, "error": fields}).encode()


def result(task_id: str, text: str = "hello", status: str = "completed", error: Any = None) -> dict[str, Any]:
    """The JSON of a ``TaskResult``."""
    return {
        "task_id": task_id,
        "history": [],
        "result": text,
        "data": {},
        "value": text,
        "status": status,
        "error": error,
        "attempts": 1,
    }


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
