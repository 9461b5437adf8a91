"""The heads of HTTP requests, bounded: the line and the headers are read before any application can refuse them."""

from __future__ import annotations

from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from arriero.types.errors import HeadTooLarge

#: The most bytes of a request's line and headers together, and the most headers.
MOST_BYTES = 64 * 1024
MOST_HEADERS = 200
#: What may come with the bytes of a head that is not complete, at most: the end of another request, in one read.
ONE_READ = 256 * 1024


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol, which answers 431 to a head beyond the limits and closes the connection.

    The parser keeps what it has of a line until the line is whole, so the bytes are counted as they come, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._gathered = 0
        self._size = 0
        self._refused = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and not self._refused:
            self._gathered += len(data)
            if self._gathered > MOST_BYTES + ONE_READ:
                self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._gathered = self._size = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size <= MOST_BYTES and len(self.headers) <= MOST_HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._size > MOST_BYTES or len(self.headers) > MOST_HEADERS:
            self._refuse()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()
        self._in_head = True
        self._gathered = 0

    def handle_websocket_upgrade(self) -> None:
        if not self._refused:
            super().handle_websocket_upgrade()

    def _refuse(self) -> None:
        self._refused = True
        before: RequestResponseCycle | None = self.cycle
        if before is not None and not before.response_complete:
            self.transport.abort()  # the answer to a request before this one is under way
            return
        error = HeadTooLarge(
            f"the request's line and headers are larger than {MOST_BYTES} bytes or more than {MOST_HEADERS} headers",
            limit=MOST_BYTES,
        )
        body = msgspec.json.encode({"detail": error.message, "error": error.info()})
        head = (
            f"HTTP/1.1 {error.status} Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
