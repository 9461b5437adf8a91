"""HTTP by the byte, for requests that no client library would send."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """An answer as it came; ``body`` is read as JSON where it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any


async def ask(port: int, *parts: bytes, patience: float = 10.0) -> Answer:
    """Send these bytes and read one answer, which may come before everything was sent."""
    async with asyncio.timeout(patience):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sending = asyncio.ensure_future(_send(writer, parts))
        try:
            return await _read(reader)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.transport.abort()


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """A request whose headers are ``Host``, ``Content-Length`` and those given, with ``_`` for ``-``."""
    given = {"Host": "localhost", "Content-Length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


async def _send(writer: asyncio.StreamWriter, parts: Iterable[bytes]) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Answer:
    status = (await reader.readline()).split(b" ", 2)[1]
    headers: dict[str, str] = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    is_json = headers.get("content-type", "").startswith("application/json")
    return Answer(int(status), headers, json.loads(body) if is_json and body else body)
