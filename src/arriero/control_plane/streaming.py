"""Streams of tasks over HTTP: the documented NDJSON, and server-sent events that can be resumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from arriero.core import records
from arriero.core.core import Core
from arriero.core.records import StreamEntry
from arriero.types.errors import InvalidInput

#: The most digits of an event's number.
DIGITS = 18
#: Seconds of silence after which a server-sent stream says that it is still there.
KEEP_ALIVE = 15.0


async def ndjson(core: Core, task_id: str) -> AsyncIterator[bytes]:
    """One line for each event of the task and of the services below it, save for what ended their runs.

    A task that did not complete ends with one line ``{"error": ...}``.
    """
    async for page in core.streams.follow(task_id):
        lines = b"".join(_line(records.ENTRY.decode(entry.value)) for entry in page)
        if lines:
            yield lines


def _line(entry: StreamEntry) -> bytes:
    if entry.kind == "event" and not (entry.path and entry.last):
        return bytes(entry.data) + b"\n"
    if entry.kind == "end" and entry.error is not None:
        return msgspec.json.encode({"error": entry.error}) + b"\n"
    return b""


async def server_sent(core: Core, task_id: str, after: int) -> AsyncIterator[bytes]:
    """Every entry of the stream behind ``after``, then keep-alives while nothing happens, until the one ``end``."""
    pages = core.streams.follow(task_id, after)
    next_page = asyncio.ensure_future(anext(pages, None))
    try:
        while True:
            done, _ = await asyncio.wait({next_page}, timeout=KEEP_ALIVE)
            if not done:
                yield b": still here\n\n"
                continue
            page = next_page.result()
            if page is None:
                return
            yield b"".join(_event(entry.seq, entry.value) for entry in page)
            next_page = asyncio.ensure_future(anext(pages, None))
    finally:
        next_page.cancel()
        await asyncio.gather(next_page, return_exceptions=True)
        await pages.aclose()


def _event(seq: int, value: bytes) -> bytes:
    kind = records.ENTRY.decode(value).kind
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, kind.encode(), value)


def cursor(text: str | None) -> int:
    """The seq of a ``Last-Event-ID`` header; 0 without one."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > DIGITS:
        raise InvalidInput(f"Last-Event-ID is the number of an event, not {text[:40]!r}")
    return int(text)
