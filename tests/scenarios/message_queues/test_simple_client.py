import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing

import msgspec
import pytest

from arriero.message_queues import SimpleMessageQueue, SimpleMessageQueueConfig, SimpleMessageQueueServer
from arriero.message_queues.simple import frames, wire
from arriero.testing.relay import Relay
from arriero.types.errors import ConfigurationError, InvalidInput, PayloadTooLarge, QueueUnavailable
from arriero.types.messages import QueueMessage
from arriero.types.serving import bind


@pytest.fixture
def port() -> int:
    with closing(bind("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
async def server(port: int) -> AsyncIterator[SimpleMessageQueueServer]:
    async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=port)) as server:
        yield server


def elapsed(begin: float) -> float:
    return asyncio.get_running_loop().time() - begin


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_publish_to_an_absent_server_fails_typed_after_a_while(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PATIENCE", 0.2)
    async with SimpleMessageQueue(port=port) as queue:
        begin = now()
        with pytest.raises(QueueUnavailable, match=f"127.0.0.1:{port}"):
            await queue.publish(QueueMessage(type="t"))
        assert 0.2 <= elapsed(begin) < 2


async def test_a_transient_message_for_an_absent_server_fails_typed_and_soon(port: int) -> None:
    async with SimpleMessageQueue(port=port) as queue:
        begin = now()
        for _ in range(3):
            with pytest.raises(QueueUnavailable):
                await queue.publish(QueueMessage(type="t"), transient=True)
        assert elapsed(begin) < 2 * wire.TRANSIENT_PATIENCE


async def test_a_transient_message_can_be_the_first(server: SimpleMessageQueueServer) -> None:
    async with SimpleMessageQueue(server.as_config()) as queue:
        await queue.publish(QueueMessage(type="t"), transient=True)
    assert await server.queue.depth("t") == 1


async def test_subscribe_waits_for_the_server_and_says_so_once(port: int, caplog: pytest.LogCaptureFixture) -> None:
    queue = SimpleMessageQueue(port=port)
    with caplog.at_level(logging.INFO, logger=wire.__name__):
        subscribing = asyncio.ensure_future(queue.subscribe("t"))
        with pytest.raises(QueueUnavailable):
            await queue.publish(QueueMessage(type="t"), transient=True)
        async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=port)) as server:
            subscription = await subscribing
            await server.queue.publish(QueueMessage(type="t", id_="1"))
            assert (await anext(subscription)).message.id_ == "1"
            await queue.aclose()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert f"127.0.0.1:{port}" in caplog.text


async def test_a_subscribe_that_is_cancelled_leaves_nothing_behind(port: int) -> None:
    async with SimpleMessageQueue(port=port) as queue:
        subscribing = asyncio.ensure_future(queue.subscribe("t"))
        with pytest.raises(QueueUnavailable):
            await queue.publish(QueueMessage(type="t"), transient=True)
        subscribing.cancel()
        await asyncio.wait({subscribing})
        async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=port)) as server:
            await queue.publish(QueueMessage(type="t"))
            assert await server.queue.depth("t") == 1


async def test_consumption_goes_on_after_the_server_was_restarted(port: int) -> None:
    config = SimpleMessageQueueConfig(port=port)
    async with SimpleMessageQueue(config) as queue:
        async with SimpleMessageQueueServer(config):
            subscription = await queue.subscribe("t", 5)
            await queue.publish(QueueMessage(type="t", id_="1"))
            before = await anext(subscription)
        async with SimpleMessageQueueServer(config) as server:
            await queue.publish(QueueMessage(type="t", id_="2"))
            after = await anext(subscription)
            assert (before.message.id_, after.message.id_) == ("1", "2")
            await before.ack()
            await after.nack()
            assert (await anext(subscription)).message.id_ == "2"
            assert await server.queue.dead_letters("t") == []


async def test_a_publish_that_loses_its_connection_is_repeated(server: SimpleMessageQueueServer) -> None:
    assert server.port is not None
    async with Relay("127.0.0.1", server.port) as relay, SimpleMessageQueue(port=relay.port) as queue:
        await queue.publish(QueueMessage(type="t"))
        publishing = [asyncio.ensure_future(queue.publish(QueueMessage(type="t", id_=str(n)))) for n in range(20)]
        await asyncio.sleep(0)
        relay.cut()
        await asyncio.gather(*publishing)
        subscription = await queue.subscribe("t", 100)
        seen: set[str] = set()
        while not seen >= {str(n) for n in range(20)}:
            seen.add((await anext(subscription)).message.id_)


async def test_what_the_server_refuses_is_refused_typed(server: SimpleMessageQueueServer) -> None:
    async with SimpleMessageQueue(server.as_config()) as queue:
        with pytest.raises(InvalidInput, match="prefetch"):
            await queue.subscribe("t", 0)
        with pytest.raises(InvalidInput, match="name"):
            await queue.publish(QueueMessage(type=""))
        subscription = await queue.subscribe("t")
        await queue.publish(QueueMessage(type="t"))
        await (await anext(subscription)).ack()


async def test_a_message_beyond_either_limit_is_refused_and_the_connection_stays(port: int) -> None:
    narrow, wide = (SimpleMessageQueueConfig(port=port, max_message=limit) for limit in (1000, 3000))
    async with SimpleMessageQueueServer(narrow), SimpleMessageQueue(wide) as queue:
        subscription = await queue.subscribe("t")
        for size in (2000, 4000):
            with pytest.raises(PayloadTooLarge, match="max_message"):
                await queue.publish(QueueMessage(type="t", data={"x": "x" * size}))
        await queue.publish(QueueMessage(type="t"))
        await (await anext(subscription)).ack()


async def test_a_full_topic_is_a_typed_error_for_the_client(port: int) -> None:
    config = SimpleMessageQueueConfig(port=port, max_depth=1)
    async with SimpleMessageQueueServer(config), SimpleMessageQueue(config) as queue:
        await queue.publish(QueueMessage(type="t"))
        with pytest.raises(QueueUnavailable, match="full") as refusal:
            await queue.publish(QueueMessage(type="t"))
        assert refusal.value.retry_after
        await queue.publish(QueueMessage(type="t"), transient=True)
        assert await queue.depth("t") == 1


async def test_a_subscription_that_a_restarted_server_refuses_ends_with_the_reason(port: int) -> None:
    async with SimpleMessageQueue(port=port) as queue:
        async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=port)):
            subscription = await queue.subscribe("x" * 1000)
        from arriero.message_queues.memory import MemoryMessageQueue
        from arriero.message_queues.topics import Limits

        narrow = MemoryMessageQueue(limits=Limits(topics=0))
        async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=port), queue=narrow):
            with pytest.raises(QueueUnavailable, match="0 topics"):
                await anext(subscription)


async def test_another_kind_of_server_at_the_address_is_named_as_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "PATIENCE", 0.1)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    other = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with other, SimpleMessageQueue(port=other.sockets[0].getsockname()[1]) as queue:
        with pytest.raises(QueueUnavailable, match="404"):
            await queue.publish(QueueMessage(type="t"))


def test_unknown_client_kwargs_are_named() -> None:
    async def publish() -> None:
        await SimpleMessageQueue(SimpleMessageQueueConfig(client_kwargs={"tiemout": 3})).publish(QueueMessage())

    with pytest.raises(ConfigurationError, match="tiemout"):
        asyncio.run(publish())


def test_one_queue_serves_several_event_loops(port: int) -> None:
    queue = SimpleMessageQueue(port=port)

    async def round_trip() -> int:
        async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=port)):
            await queue.publish(QueueMessage(type="t"))
            return await queue.depth("t")

    assert [asyncio.run(round_trip()) for _ in range(2)] == [1, 1]


FORGETFUL = """
import asyncio
from arriero.message_queues import RemoteMessageConsumer, SimpleMessageQueue
from arriero.message_queues import SimpleMessageQueueConfig, SimpleMessageQueueServer
from arriero.types.messages import QueueMessage

async def main():
    server = SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0))
    task = asyncio.create_task(server.launch_server())
    await server.started()
    queue = SimpleMessageQueue(server.as_config())
    subscription = await queue.subscribe("t")
    await queue.publish(QueueMessage(type="t"))
    await anext(subscription)
    consumer = RemoteMessageConsumer(message_type="default", url=server.as_config().base_url + "publish/t")
    await consumer.process_message(QueueMessage())
    print(await queue.depth("t"))

asyncio.run(main())
"""


def test_a_program_that_closes_nothing_ends_without_a_word() -> None:
    command = [sys.executable, "-W", "error", "-c", FORGETFUL]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_frames_are_sent_in_batches_of_a_bounded_size() -> None:
    def publish(size: int) -> frames.Publish:
        return frames.Publish("t", msgspec.Raw(b'"' + b"x" * size + b'"'), 1)

    sent = [
        publish(10),
        frames.Flush(1),
        publish(frames.BATCH + 1),
        publish(10),
        frames.Ack(1, 1),
        publish(frames.BATCH),
    ]
    batches = [frames.decode_client_frames(batch) for batch in frames.batches(sent)]
    assert [len(batch) for batch in batches] == [2, 1, 2, 1]
    assert [type(frame) for batch in batches for frame in batch] == [type(frame) for frame in sent]
    assert list(frames.batches([])) == []
