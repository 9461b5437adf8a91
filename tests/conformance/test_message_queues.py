from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from arriero.message_queues import (
    MemoryMessageQueue,
    SimpleMessageQueue,
    SimpleMessageQueueConfig,
    SimpleMessageQueueServer,
)
from arriero.testing.queues import Connect, MessageQueueContract
from arriero.testing.relay import Relay


class TestMemoryMessageQueue(MessageQueueContract):
    @pytest.fixture
    def connect(self) -> Connect:
        queue = MemoryMessageQueue()
        return lambda: queue


class TestSimpleMessageQueueInProcess(MessageQueueContract):
    @pytest.fixture
    def connect(self) -> Connect:
        queue = SimpleMessageQueue()
        return lambda: queue


class TestSimpleMessageQueue(MessageQueueContract):
    @pytest.fixture
    async def server(self) -> AsyncIterator[SimpleMessageQueueServer]:
        async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0)) as server:
            yield server

    @pytest.fixture
    async def relay(self, server: SimpleMessageQueueServer) -> AsyncIterator[Relay]:
        assert server.port is not None
        async with Relay("127.0.0.1", server.port) as relay:
            yield relay

    @pytest.fixture
    def connect(self, relay: Relay) -> Connect:
        return lambda: SimpleMessageQueue(host="127.0.0.1", port=relay.port)

    @pytest.fixture
    def cut(self, relay: Relay) -> Callable[[], None]:
        return relay.cut

    @pytest.fixture
    def put_unreadable(self, server: SimpleMessageQueueServer) -> Callable[[str], Awaitable[None]]:
        async def put(topic: str) -> None:
            url = f"{server.as_config().base_url}messages/{topic}"
            async with aiohttp.ClientSession() as session, session.post(url, json={"data": "no object"}) as answer:
                assert answer.status == 422

        return put


class TestASimpleServerAndItsOwnProcess(MessageQueueContract):
    """One side talks to the server, the other is in the server's process."""

    @pytest.fixture
    async def connect(self) -> AsyncIterator[Connect]:
        async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0)) as server:
            queues = iter([server.queue, SimpleMessageQueue(server.as_config())])
            yield lambda: next(queues)
