import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from arriero.types.errors import AlreadyInUse, BindRefused, ConfigurationError
from arriero.types.loopback import is_loopback
from arriero.types.serving import AsgiServer, BodyLimit, bind


async def hello(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def get(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.8.9.10", "::1"])
def test_only_this_machine_reaches_a_loopback_address(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",  # noqa: S104 it is refused
        "::",
        "10.0.0.1",
        "::ffff:127.0.0.1",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "2130706433",
    ],
)
def test_any_other_address_is_refused_with_a_word_about_tokens(host: str) -> None:
    with pytest.raises(BindRefused, match="token"):
        bind(host, 0)


def test_a_taken_port_is_named_with_its_host() -> None:
    with closing(bind("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(AlreadyInUse, match=f"127.0.0.1:{port}"):
            bind("127.0.0.1", port)


def test_localhost_is_bound_as_ipv4() -> None:
    with closing(bind("localhost", 0)) as sock:
        assert sock.family == socket.AF_INET


async def test_the_context_is_entered_when_requests_are_answered_and_left_with_the_port_free() -> None:
    server = AsgiServer(hello, bind("127.0.0.1", 0))
    async with server:
        assert server.started.is_set()
        assert (await get(server.port)).endswith(b"hello")
        assert server.url == f"http://127.0.0.1:{server.port}"
    with closing(bind("127.0.0.1", server.port)):
        pass


async def test_serve_runs_until_cancelled() -> None:
    server = AsgiServer(hello, bind("127.0.0.1", 0))
    task = asyncio.create_task(server.serve())
    await server.started.wait()
    assert (await get(server.port)).endswith(b"hello")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ConnectionRefusedError):
        await get(server.port)


async def test_an_open_request_is_finished_while_the_server_drains() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            entered.set()
            await leave.wait()
            await hello(scope, receive, send)

    server = AsgiServer(slow, bind("127.0.0.1", 0))
    task = asyncio.create_task(server.serve())
    await server.started.wait()
    answer = asyncio.create_task(get(server.port))
    await entered.wait()
    task.cancel()
    leave.set()
    assert (await answer).endswith(b"hello")
    await asyncio.wait({task})
    assert task.cancelled()


async def test_an_application_that_does_not_start_fails_typed_and_frees_its_port() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    server = AsgiServer(broken, bind("127.0.0.1", 0), lifespan="on")
    with pytest.raises(ConfigurationError, match="did not start"):
        async with server:
            pass
    with closing(bind("127.0.0.1", server.port)):
        pass


async def test_signal_handlers_stay_as_they_are() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with AsgiServer(hello, bind("127.0.0.1", 0)):
        assert signal.getsignal(signal.SIGTERM) is before


async def test_a_server_starts_once() -> None:
    server = AsgiServer(hello, bind("127.0.0.1", 0))
    async with server:
        with pytest.raises(ConfigurationError, match="already"):
            await server.serve()


async def post_chunks(port: int, *chunks: bytes) -> bytes:
    """Post a body whose length is not told before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.writelines(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def count(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """Answers how long the body was; to a body that cannot be read, 500, as frameworks do."""
    if scope["type"] != "http":
        return
    length, status, more = 0, 200, True
    try:
        while more:
            event = await receive()
            length += len(event["body"])
            more = event["more_body"]
    except Exception:
        status = 500
        raise
    finally:
        body = b"%d bytes" % length
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def test_a_body_within_the_limit_passes() -> None:
    async with AsgiServer(BodyLimit(count, 10), bind("127.0.0.1", 0)) as server:
        assert (await post_chunks(server.port, b"12345", b"67890")).endswith(b"10 bytes")


async def test_a_body_beyond_the_limit_is_answered_413_whatever_the_application_says() -> None:
    async with AsgiServer(BodyLimit(count, 10), bind("127.0.0.1", 0)) as server:
        answer = await post_chunks(server.port, b"12345", b"678901")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"10 bytes" in answer
        assert b"500" not in answer


def test_with_tokens_any_address_may_be_bound() -> None:
    with closing(bind("0.0.0.0", 0, tokens=True)) as sock:  # noqa: S104  # what is tested
        assert sock.getsockname()[1]
