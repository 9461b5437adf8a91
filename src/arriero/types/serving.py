"""Serving an ASGI application on a socket of this machine: bind first, then serve until cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import msgspec

from arriero.types.errors import (
    AlreadyInUse,
    ArrieroError,
    BindRefused,
    ConfigurationError,
    InternalError,
    PayloadTooLarge,
)
from arriero.types.loopback import is_loopback

if TYPE_CHECKING:
    from types import TracebackType

    import uvicorn

logger = logging.getLogger("arriero.serving")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]

_encode = msgspec.json.Encoder().encode

BACKLOG = 2048
#: Seconds that open requests get to finish once a server stops.
DRAIN = 5
#: Longer than pooling clients keep an idle connection, so that none is closed under a request.
KEEP_ALIVE = 75
#: Bytes that may wait for a client that does not read, before the application that writes them has to wait.
WRITE_AHEAD = 16 * 1024
#: Statuses that say when to come again.
LATER = (429, 503)
#: The most digits of a declared length that are worth reading.
DIGITS = 18


def bind(host: str, port: int, *, tokens: bool = False) -> socket.socket:
    """A socket that listens on a loopback address, or on any when ``tokens`` guard it; port 0 takes a free one.

    Connections are accepted into its backlog from now on, so a client that comes before the server is up only waits.

    Errors: ``BindRefused``, ``AlreadyInUse``, ``ConfigurationError``.
    """
    if not tokens and not is_loopback(host):
        raise BindRefused(
            f"Refused to listen on {host or 'every address'}: beyond this machine every request needs a token. Set "
            "ARRIERO_TOKENS (such as deploy:<at least 16 characters>) or ARRIERO_TOKENS_FILE, or use 127.0.0.1."
        )
    address = "127.0.0.1" if host.lower() == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Named, because asyncio sends small answers at once only on sockets that say they are TCP.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise _bind_error(host, port, error) from error
    sock.setblocking(False)
    return sock


def _bind_error(host: str, port: int, error: Exception) -> ArrieroError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return AlreadyInUse(f"Another process listens on {host}:{port}. End it, or choose another port.")
    return ConfigurationError(f"Cannot listen on {host}:{port}: {error}. Choose another address.")


class BodyLimit:
    """Wraps an application: a request with a larger body than ``limit`` bytes is answered with 413."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request, counting what comes in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if any(name == b"content-length" and self._exceeds(value) for name, value in scope["headers"]):
            await self._refuse(send)
            return
        count = _BodyCount(self._limit, receive, send)
        with contextlib.suppress(_TooLarge):
            await self._app(scope, count.receive, count.send)
        if count.exceeded and not count.answered:
            await self._refuse(send)

    async def _refuse(self, send: Send) -> None:
        limit = self._limit
        await _refuse(send, PayloadTooLarge(f"The body is larger than the limit of {limit} bytes.", limit=limit))

    def _exceeds(self, declared: bytes) -> bool:
        return declared.isdigit() and (len(declared) > DIGITS or int(declared) > self._limit)


class _TooLarge(Exception):
    pass


class _BodyCount:
    """Counts a body as it is received. Past the limit, whatever the application answers is replaced."""

    def __init__(self, limit: int, receive: Receive, send: Send) -> None:
        self.exceeded = False
        self.answered = False
        self._left = limit
        self._receive = receive
        self._send = send

    async def receive(self) -> Any:
        event = await self._receive()
        self._left -= len(event.get("body", b""))
        if self._left < 0:
            self.exceeded = True
            raise _TooLarge
        return event

    async def send(self, event: Any) -> None:
        if self.exceeded and not self.answered:
            return
        self.answered = True
        await self._send(event)


class JSONBodies:
    """Wraps an application whose requests have JSON bodies or none, so that they need not name that content type."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request as if it said that its body is JSON."""
        if scope["type"] == "http":
            others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
            scope = {**scope, "headers": [*others, (b"content-type", b"application/json")]}
        await self._app(scope, receive, send)


class Faults:
    """Wraps an application: a fault that it did not foresee is logged, and answered as ``InternalError``, which says
    nothing of it. An answer that has begun is cut short instead.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def tell(event: Any) -> None:
            nonlocal answered
            answered = True
            await send(event)

        try:
            await self._app(scope, receive, tell)
        except Exception:
            if answered:
                raise
            logger.exception("%s %r met a fault", scope["method"], scope["path"])
            await _refuse(send, InternalError("the server met a fault of its own; its log has the traceback"))


def error_bytes(error: ArrieroError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """The one place where an error becomes an HTTP answer: its status, body and headers of its own."""
    info = error.info()
    headers = [(b"retry-after", b"%d" % max(1, round(error.retry_after or 1)))] if error.status in LATER else []
    return error.status, _encode({"detail": info.message, "error": info}), headers


async def _refuse(send: Send, error: ArrieroError) -> None:
    status, body, own = error_bytes(error)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *own]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class AsgiServer:
    """Serves an application on a bound socket, which it closes at the end. It installs no signal handlers.

    ``await server.serve()`` serves until it is cancelled; ``async with server:`` serves meanwhile and is entered when
    requests are answered. ``started`` is set from that moment on. Stopping takes no new connections, gives open
    requests ``DRAIN`` seconds, and then runs the application's own shutdown. ``options`` are uvicorn's.
    """

    def __init__(self, app: ASGIApp, sock: socket.socket, **options: Any) -> None:
        self.started = asyncio.Event()
        self._app = app
        self._sock = sock
        self._options = options
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.host, self.port = sock.getsockname()[:2]

    @property
    def url(self) -> str:
        """The address that is served, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def serve(self) -> None:
        """Serve until cancelled, then drain; a second cancellation cuts the drain short."""
        task = self._start()
        try:
            await asyncio.shield(task)
        finally:
            await self._stop(task)

    async def ready(self) -> None:
        """Wait until requests are answered. Errors: whatever kept a server that was started from coming up."""
        assert self._task is not None, "serve() or `async with` starts a server"
        started = asyncio.ensure_future(self.started.wait())
        try:
            await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                await self._task
        finally:
            started.cancel()

    async def __aenter__(self) -> Self:
        task = self._start()
        try:
            await self.ready()
        except BaseException:
            await self._stop(task)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        await self._stop(self._task)

    def _start(self) -> asyncio.Task[None]:
        if self._task is not None:
            raise ConfigurationError("This server has been started already. Make a new one on a new socket.")
        self._task = asyncio.create_task(self._run(), name=f"serve {self.url}")
        return self._task

    async def _run(self) -> None:
        server = _uvicorn_server(_quiet(self._app), self._options, self.started, self._stopping)
        try:
            await server.serve(sockets=[self._sock])
        finally:
            self._sock.close()

    async def _stop(self, task: asyncio.Task[None]) -> None:
        self._stopping.set()
        try:
            await task
        finally:
            self._sock.close()  # once more: a task that is cancelled before it begins closes nothing


def _quiet(app: ASGIApp) -> ASGIApp:
    """The application, for which the cancellation of every task at the end of a loop is an end and no error.

    A request that is cut short stays an error.
    """

    async def serve(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None

        async def tell(event: Any) -> None:
            if event["type"] != "lifespan.shutdown.failed" or not task.cancelling():
                await send(event)

        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, tell)

    return serve


def _uvicorn_server(
    app: ASGIApp, options: Mapping[str, Any], started: asyncio.Event, stopping: asyncio.Event
) -> uvicorn.Server:
    from collections.abc import Generator

    import uvicorn

    from arriero.types.heads import BoundedHeads

    class Protocol(BoundedHeads):
        """Holds little for a client that does not read: there may be thousands of them."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=WRITE_AHEAD)

    class Server(uvicorn.Server):
        """Waits for an event where uvicorn looks at a flag every 0.1 s, and leaves signals to the process."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            try:
                await super().startup(sockets)
            except SystemExit as error:
                raise ConfigurationError("The application did not start; the log says why.") from error

        async def main_loop(self) -> None:
            await self.on_tick(0)
            started.set()
            await stopping.wait()

    defaults: dict[str, Any] = {
        "http": Protocol,
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "date_header": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": DRAIN,
        "ws_per_message_deflate": False,
    }
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return Server(uvicorn.Config(app, **{**defaults, **options}))


#: What uvicorn calls errors: a WebSocket that is refused with an answer that says why, and a client's wrong text.
_NO_NEWS = {"ASGI callable returned without completing handshake.", "Invalid UTF-8 sequence received from client."}


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg not in _NO_NEWS
