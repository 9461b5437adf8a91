"""The heads of HTTP requests, bounded: the line and the headers are read before any application can refuse them."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from arriero.types.errors import HeadTooLarge
from arriero.types.serving import error_bytes

#: The most bytes of a request's line and headers together, and the most headers.
MOST_BYTES = 64 * 1024
MOST_HEADERS = 200
#: Seconds that a head may take to come, from the connection or from its first bytes on.
HEAD_WITHIN = 30.0
#: What may come with the bytes of a head that is not complete, at most: the end of another request, in one read.
ONE_READ = 256 * 1024


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol, which answers 431 to a head beyond the limits, and waits for none for ever.

    The parser keeps what it has of a line until the line is whole, so the bytes are counted as they come, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._gathered = 0
        self._arriving = 0
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._arriving = len(data)
        super().data_received(data)
        if self._in_head and not self._refused:
            self._gathered += len(data)
            self._expect_head()
            if self._gathered > MOST_BYTES + ONE_READ:
                self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._gathered = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._forget_timer()
        if len(self.headers) > MOST_HEADERS or self._is_large():
            self._refuse()
        else:
            super().on_headers_complete()

    def _is_large(self) -> bool:
        """Whether the head is, which can only be when as much has come since it began."""
        if self._gathered + self._arriving <= MOST_BYTES:
            return False
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_BYTES

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if not self._refused:
            super().handle_websocket_upgrade()

    def _expect_head(self) -> None:
        """A head that was not sent in one piece must be complete in time; one that has begun has no more than that."""
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_WITHIN, self._give_up)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._refused = True
        self.transport.close()

    def _refuse(self) -> None:
        self._refused = True
        self._forget_timer()
        before: RequestResponseCycle | None = self.cycle
        if before is not None and not before.response_complete:
            self.transport.abort()  # the answer to a request before this one is under way
            return
        error = HeadTooLarge(
            f"the request's line and headers are larger than {MOST_BYTES} bytes or more than {MOST_HEADERS} headers",
            limit=MOST_BYTES,
        )
        status, body, _ = error_bytes(error)
        head = (
            f"HTTP/1.1 {status} Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
