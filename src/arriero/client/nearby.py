"""Control planes that run in the caller's own event loop: they are asked without a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from arriero.client.requests import NEXT_AFTER, Request
from arriero.client.settings import answer_within, default_settings
from arriero.client.tracing import traceparent
from arriero.client.trouble import Kind, Outage, Trouble
from arriero.types.errors import ProtocolError

_NEXT_AFTER = NEXT_AFTER.lower().encode()
ASGIApp = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Nearby:
    """An ASGI application that answers requests of this event loop."""

    def __init__(self, url: str, app: ASGIApp) -> None:
        self.outage = Outage(url)
        self._app = app
        self._asked: set[asyncio.Future[None]] = set()

    async def exchange(self, request: Request[Any], left: float | None) -> tuple[int, bytes, str]:
        """Status and body of the answer, and how its list goes on.

        As over a network, what was asked goes on when the caller is cancelled.
        """
        answer: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body or b"", "more_body": False}

        async def send(message: Any) -> None:
            answer.append(message)

        task = asyncio.ensure_future(self._app(_scope(request), receive, send))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        within = answer_within(default_settings(), request.wait, left)
        done, _ = await asyncio.wait((task,), timeout=within)
        if not done:
            raise Trouble(Kind.SILENT, "does not answer in time")
        if (error := task.exception()) is not None and not answer:
            raise error
        if not answer:
            raise ProtocolError(f"{request.name} was not answered")
        body = b"".join(message.get("body", b"") for message in answer[1:])
        return answer[0]["status"], body, _following(answer[0].get("headers", ()))


_near: dict[str, tuple[asyncio.AbstractEventLoop, Nearby]] = {}


@contextmanager
def announced(url: str, app: ASGIApp) -> Iterator[None]:
    """Requests of this event loop to ``url`` are answered by the application meanwhile."""
    _near[url] = asyncio.get_running_loop(), Nearby(url, app)
    try:
        yield
    finally:
        _near.pop(url, None)


def find(url: str) -> Nearby | None:
    """Who answers for that address in the running event loop."""
    if not _near or (known := _near.get(url)) is None:
        return None
    loop, nearby = known
    return nearby if loop is asyncio.get_running_loop() else None


def is_here(url: str) -> bool:
    """Whether what answers for that address runs in the event loop of this thread, if there is one."""
    known = _near.get(url) or _near.get(url.replace("//localhost:", "//127.0.0.1:").rstrip("/"))
    if known is None:
        return False
    try:
        return known[0] is asyncio.get_running_loop()
    except RuntimeError:
        return False


def _scope(request: Request[Any]) -> dict[str, Any]:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers.items()]
    if (trace := traceparent()) is not None:
        headers.append((b"traceparent", trace.encode()))
    headers.append((b"content-length", b"%d" % len(request.body or b"")))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": _decoded(request.path),
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": request.query.encode(),
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
    }


def _following(headers: Iterable[tuple[bytes, bytes]]) -> str:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == _NEXT_AFTER), "")


def _decoded(path: str) -> str:
    return unquote(path) if "%" in path else path
