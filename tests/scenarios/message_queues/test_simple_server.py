import asyncio
from contextlib import closing
from typing import NamedTuple

import aiohttp
import pytest

from arriero.message_queues import SimpleMessageQueue, SimpleMessageQueueConfig, SimpleMessageQueueServer
from arriero.message_queues.simple import peer as peer_module
from arriero.message_queues.simple import server as server_module
from arriero.message_queues.simple.client import SimpleRemoteClientMessageQueue
from arriero.types.errors import AlreadyInUse, BindRefused, ConfigurationError
from arriero.types.messages import QueueMessage
from arriero.types.serving import bind


def free_port() -> int:
    with closing(bind("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "http://127.0.0.1:8001/"),
        ({"port": 80}, "http://127.0.0.1/"),
        ({"port": None}, "http://127.0.0.1/"),
        ({"use_ssl": True}, "https://127.0.0.1:8001/"),
        ({"use_ssl": True, "port": 443}, "https://127.0.0.1/"),
        ({"use_ssl": True, "port": 80}, "https://127.0.0.1:80/"),
        ({"host": "::1"}, "http://[::1]:8001/"),
    ],
)
def test_the_base_url_leaves_out_only_what_is_understood(fields: dict[str, object], url: str) -> None:
    assert SimpleMessageQueueConfig.model_validate(fields).base_url == url


def test_a_configuration_reads_the_environment_and_does_not_dump_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMPLE_MESSAGE_QUEUE_PORT", "9")
    dump = SimpleMessageQueueConfig().model_dump()
    assert dump["port"] == 9
    assert {"host", "port", "internal_host", "internal_port"} <= set(dump)
    assert "type" not in dump


async def test_a_server_tells_its_free_port_and_is_reached_there() -> None:
    server = SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0))
    task = asyncio.create_task(server.launch_server())
    await server.started()
    assert server.port
    async with SimpleMessageQueue(server.as_config()) as queue:
        await queue.publish(QueueMessage(type="t"))
    assert await server.queue.depth("t") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_older_form_of_the_client_reaches_its_server() -> None:
    async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0)) as server:
        url = server.as_config().base_url
        async with SimpleRemoteClientMessageQueue(url, "127.0.0.1", server.port) as queue:
            assert queue.as_config().base_url == url
            await queue.publish(QueueMessage(type="t"))
        assert await server.queue.depth("t") == 1


async def test_the_internal_address_is_bound_and_the_public_one_reported() -> None:
    config = SimpleMessageQueueConfig(host="queue.example", port=80, internal_host="127.0.0.1", internal_port=0)
    async with SimpleMessageQueueServer(config) as server:
        assert server.port not in {0, 80}
        assert server.as_config() == config


async def test_a_taken_port_is_named() -> None:
    async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0)) as server:
        second = SimpleMessageQueueServer(SimpleMessageQueueConfig(port=server.port))
        with pytest.raises(AlreadyInUse, match=f"127.0.0.1:{server.port}"):
            await second.launch_server()
        with pytest.raises(AlreadyInUse):
            await second.started()
        with pytest.raises(AlreadyInUse):
            await server.launch_server()


async def test_an_address_that_others_reach_is_refused() -> None:
    with pytest.raises(BindRefused, match="token"):
        async with SimpleMessageQueueServer(SimpleMessageQueueConfig(host="0.0.0.0")):  # noqa: S104 it is refused
            pass


async def test_a_server_without_a_port_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="internal_port"):
        await SimpleMessageQueueServer(SimpleMessageQueueConfig(port=None)).launch_server()


async def test_a_server_starts_again_after_it_ended() -> None:
    server = SimpleMessageQueueServer(SimpleMessageQueueConfig(port=free_port()))
    for number in range(2):
        async with server, SimpleMessageQueue(server.as_config()) as queue:
            await queue.publish(QueueMessage(type="t"))
            assert await queue.depth("t") == number + 1


async def test_a_client_that_answers_no_ping_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(server_module, "PING_TIMEOUT", 0.1)
    async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0)) as server, aiohttp.ClientSession() as http:
        await server.queue.publish(QueueMessage(type="t"))
        async with http.ws_connect(f"{server.as_config().base_url}connect", autoping=False) as frozen:
            await frozen.send_json(
                [{"frame": "subscribe", "request": 1, "subscription": 1, "topic": "t", "prefetch": 1}]
            )
            await frozen.receive_bytes()
            assert await server.queue.depth("t") == 0
            subscription = await server.queue.subscribe("t")
            await (await anext(subscription)).ack()


@pytest.mark.parametrize("is_gone", [True, False])
async def test_what_waits_for_a_client_that_reads_nothing_goes_to_others(
    monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    monkeypatch.setattr(peer_module, "BACKLOG", 10)
    if not is_gone:
        monkeypatch.setattr(peer_module, "STALLED", 0.1)
    async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0)) as server:
        large = QueueMessage(type="t", data={"text": "x" * 1024 * 1024})
        for _ in range(30):
            await server.queue.publish(large)
        silent = await subscribed(server)
        await silent.reader.readexactly(100)
        for _ in range(20):
            await server.queue.publish(QueueMessage(type="t"))
        if is_gone:
            silent.writer.transport.abort()
        subscription = await server.queue.subscribe("t", 100)
        for _ in range(50):
            await (await anext(subscription)).ack()
        silent.writer.transport.abort()


class Silent(NamedTuple):
    """A client that reads no more than it is asked to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def subscribed(server: SimpleMessageQueueServer) -> Silent:
    """One that has subscribed to the topic ``t``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"GET /connect HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    frame = b'[{"frame":"subscribe","request":1,"subscription":1,"topic":"t","prefetch":10000}]'
    no_mask = bytes(4)
    writer.write(bytes([0x81, 0x80 | len(frame)]) + no_mask + frame)
    return Silent(reader, writer)


async def test_a_queue_with_an_address_launches_the_server_that_its_client_reaches() -> None:
    message_queue = SimpleMessageQueue(host="127.0.0.1", port=free_port())
    queue_client = message_queue.client
    subscribing = asyncio.ensure_future(queue_client.subscribe("t"))
    task = asyncio.create_task(message_queue.launch_server())
    subscription = await subscribing
    await queue_client.publish(QueueMessage(type="t", id_="1"))
    assert (await anext(subscription)).message.id_ == "1"
    await queue_client.cleanup()
    task.cancel()
    await asyncio.wait({task})


async def test_a_queue_in_process_serves_its_own_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMPLE_MESSAGE_QUEUE_PORT", str(free_port()))
    queue = SimpleMessageQueue()
    await queue.publish(QueueMessage(type="t", id_="1"))
    task = asyncio.create_task(queue.launch_server())
    async with queue.client as client:
        subscription = await client.subscribe("t")
        assert (await anext(subscription)).message.id_ == "1"
    task.cancel()
    await asyncio.wait({task})
