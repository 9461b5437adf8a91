"""The heads of requests: how large they may be, and how long one may take to arrive."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from arriero.types.serving import AsgiServer, bind
from tests.unit.types.test_serving import hello

ONE = b"GET / HTTP/1.1\r\nHost: x\r\n"
OK, TOO_LARGE = b"HTTP/1.1 200", b"HTTP/1.1 431"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with AsgiServer(reads, bind("127.0.0.1", 0)) as server:
        yield server.port


async def told(port: int, *parts: bytes) -> bytes:
    """What an answer begins with; nothing when the connection is closed without one."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = asyncio.ensure_future(reader.read(len(OK)))
        try:
            writer.writelines(parts)
            return await answer
        finally:
            writer.transport.abort()


async def reads(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    while (await receive()).get("more_body"):
        pass
    await hello(scope, receive, send)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"X: " + b"y" * 60_000, OK),
        (b"X: " + b"y" * 70_000, TOO_LARGE),
        (b"\r\n".join(b"X-%d: y" % number for number in range(190)), OK),
        (b"\r\n".join(b"X-%d: y" % number for number in range(210)), TOO_LARGE),
    ],
    ids=["many bytes", "too many bytes", "many headers", "too many headers"],
)
async def test_a_head_is_taken_up_to_its_limits(port: int, headers: bytes, status: bytes) -> None:
    answer = await told(port, ONE + b"Connection: close\r\n" + headers + b"\r\n\r\n")
    assert answer.startswith(status)


async def test_a_line_that_never_ends_is_given_up(port: int) -> None:
    assert (await told(port, b"GET /" + b"y" * 200_000, b"y" * 200_000)).startswith(TOO_LARGE)
    assert (await told(port, ONE + b"X: " + b"y" * 200_000, b"y" * 200_000)).startswith(TOO_LARGE)


async def test_a_large_body_is_no_large_head(port: int) -> None:
    length = 2_000_000
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length
    assert (await told(port, head + b"z" * length)).startswith(OK)


async def test_a_head_that_does_not_come_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arriero.types.heads.HEAD_WITHIN", 0.2)
    assert await told(port) == b""
    assert await told(port, ONE, b"X: y\r\n") == b""


async def test_a_connection_in_use_is_kept_beyond_that_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arriero.types.heads.HEAD_WITHIN", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(ONE + b"\r\n")
        assert (await reader.readuntil(b"hello")).startswith(OK)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
    writer.close()
