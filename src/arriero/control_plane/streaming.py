"""Streams of tasks over HTTP: the documented NDJSON, and server-sent events that can be resumed."""

from __future__ import annotations

import asyncio
from typing import Self

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from arriero.core import records
from arriero.core.core import Core
from arriero.core.readers import Reader
from arriero.state_stores.base import Entry
from arriero.types.errors import InvalidInput

#: The most digits of an event's number.
DIGITS = 18
#: What keeps proxies from holding events back until there are more, and from changing them.
UNBUFFERED = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
#: Milliseconds after which a browser connects again when the connection was lost.
RETRY = 1000

_entry = records.ENTRY.decode
_start = "http.response.start"
_body = "http.response.body"
_ROOM = {"type": _body, "body": b"", "more_body": True}


class Streamed(Response):
    """The answer to one reader. It waits for the socket to take more before it asks for more, so that a slow reader
    holds its place in the stream and none of its bytes.
    """

    opening = b""
    silence = b""

    def __init__(self, reader: Reader, status_code: int = 200) -> None:
        super().__init__(status_code=status_code)
        self._reader = reader

    def init_headers(self, headers: object = None) -> None:
        """As for every answer, but without a length."""
        super().init_headers(UNBUFFERED)
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the stream ends or the reader is gone."""
        gone = asyncio.create_task(self._gone(receive), name="reader of a stream")
        try:
            await send({"type": _start, "status": self.status_code, "headers": self.raw_headers})
            await self._send(send)
            await send({"type": _body, "body": b"", "more_body": False})
        finally:
            self._reader.close()
            gone.cancel()
            await asyncio.wait({gone})

    async def _send(self, send: Send) -> None:
        if self.opening:
            await send({"type": _body, "body": self.opening, "more_body": True})
        while True:
            await send(_ROOM)
            text = await self._reader.next()
            if text is None:
                return
            await send({"type": _body, "body": text or self.silence, "more_body": True})

    async def _gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._reader.close()


class NDJSON(Streamed):
    """One line for each event of the task and of the services below it, save for what ended their runs.

    A task that did not complete ends with one line ``{"error": ...}``.
    """

    media_type = "application/x-ndjson"
    silence = b"\n"

    @classmethod
    async def open(cls, core: Core, task_id: str, *, keep_alive: bool) -> Self:
        """An answer that begins with the first event."""
        silence = core.kernel.config.stream_keep_alive if keep_alive else None
        return cls(await core.streams.read(task_id, line, 0, silence))


class ServerSent(Streamed):
    """Every entry of the stream as a server-sent event, and comments while nothing happens, until the one ``end``."""

    media_type = "text/event-stream"
    opening = b"retry: %d\n\n" % RETRY
    silence = b": still here\n\n"

    @classmethod
    async def open(cls, core: Core, task_id: str, after: int) -> Response:
        """An answer that begins behind that entry; without content when nothing follows or will."""
        reader = await core.streams.read(task_id, event, after, core.kernel.config.stream_keep_alive)
        if after and reader.at_end:
            reader.close()
            return Response(status_code=204)
        return cls(reader)


def line(entry: Entry) -> bytes:
    """An entry in the documented stream: a line, or nothing."""
    found = _entry(entry.value)
    if found.kind == "event" and not (found.path and found.last):
        return bytes(found.data) + b"\n"
    if found.kind == "end" and found.error is not None:
        return msgspec.json.encode({"error": found.error}) + b"\n"
    return b""


def event(entry: Entry) -> bytes:
    """An entry as a server-sent event."""
    kind = _entry(entry.value).kind
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.seq, kind.encode(), entry.value)


def cursor(text: str | None) -> int:
    """The seq of a ``Last-Event-ID`` header; 0 without one."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > DIGITS:
        raise InvalidInput(f"Last-Event-ID is the number of an event, not {text[:40]!r}")
    return int(text)
