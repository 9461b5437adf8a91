import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Response

from arriero.message_queues import (
    CallableMessageConsumer,
    MemoryMessageQueue,
    MessageQueue,
    MessageQueuePublisherMixin,
    RemoteMessageConsumer,
    RemoteMessageConsumerDef,
)
from arriero.message_queues.http import HttpPool
from arriero.types.errors import InvalidInput, ProtocolError, TransientError, Unavailable
from arriero.types.messages import QueueMessage
from arriero.types.serving import AsgiServer, bind


class Receiver:
    def __init__(self) -> None:
        self.status = 200
        self.seen: list[QueueMessage] = []
        self.app = FastAPI()
        self.app.add_api_route("/", self.take, methods=["POST"])

    async def take(self, message: QueueMessage) -> Response:
        self.seen.append(message)
        return Response("a word", self.status, headers={"location": "/elsewhere"})


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def url(receiver: Receiver) -> AsyncIterator[str]:
    async with AsgiServer(receiver.app, bind("127.0.0.1", 0)) as server:
        yield server.url


async def test_functions_are_called_and_coroutine_functions_awaited() -> None:
    async def later(message: QueueMessage, word: str = "") -> str:
        return message.id_ + word

    def now(message: QueueMessage, word: str = "") -> str:
        return message.id_ + word

    for handler in (later, now):
        consumer = CallableMessageConsumer(handler=handler)
        assert await consumer.process_message(QueueMessage(id_="a"), word="b") == "ab"


async def test_a_message_of_another_type_is_refused() -> None:
    consumer = CallableMessageConsumer(message_type="mine", handler=print)
    with pytest.raises(InvalidInput, match="mine"):
        await consumer.process_message(QueueMessage(type="yours"))


async def test_start_consuming_awaits_what_registering_gave() -> None:
    queue, seen = MemoryMessageQueue(), asyncio.Event()

    async def handle(_: QueueMessage) -> None:
        seen.set()

    consumer = CallableMessageConsumer(message_type="t", handler=handle)
    await consumer.start_consuming()
    consumer.consuming_callable = await queue.register_consumer(consumer)
    running = asyncio.ensure_future(consumer.start_consuming())
    await queue.publish(QueueMessage(type="t"))
    await seen.wait()
    await queue.cleanup()
    await running


async def test_a_remote_consumer_posts_the_message(receiver: Receiver, url: str) -> None:
    consumer = RemoteMessageConsumer(url=url)
    sent = [QueueMessage(data={"text": "ü"}), QueueMessage()]
    for message in sent:
        await consumer.process_message(message)
    await consumer.aclose()
    assert receiver.seen == sent


@pytest.mark.parametrize(
    ("status", "error"), [(500, TransientError), (429, TransientError), (404, ProtocolError), (302, ProtocolError)]
)
async def test_an_answer_other_than_2xx_is_a_typed_failure(
    receiver: Receiver, url: str, status: int, error: type[Exception]
) -> None:
    receiver.status = status
    consumer = RemoteMessageConsumer(url=url)
    with pytest.raises(error, match=f"{status}: a word"):
        await consumer.process_message(QueueMessage())
    await consumer.aclose()


async def test_an_address_without_a_listener_is_unavailable() -> None:
    sock = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    sock.close()
    consumer = RemoteMessageConsumer(url=address)
    with pytest.raises(Unavailable, match=address):
        await consumer.process_message(QueueMessage())
    await consumer.aclose()


async def test_a_listener_that_does_not_answer_is_unavailable_in_the_end() -> None:
    sock = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    consumer = RemoteMessageConsumer(url=address, client_kwargs={"timeout": 0.1})
    with pytest.raises(Unavailable, match="Timeout"):
        await consumer.process_message(QueueMessage())
    await consumer.aclose()
    sock.close()


async def test_consumers_share_a_pool_that_they_do_not_close(receiver: Receiver, url: str) -> None:
    pool = HttpPool()
    for _ in range(2):
        consumer = RemoteMessageConsumer(url=url, client=pool)
        await consumer.process_message(QueueMessage())
        await consumer.aclose()
    assert not (await pool.session()).closed
    await pool.aclose()


@pytest.mark.parametrize("kwargs", [{"timeout": 0}, {"timeout": "1"}, {"verify": "no"}, {"headers": []}, {"auth": "x"}])
def test_client_kwargs_that_have_no_meaning_are_named(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="headers, timeout, verify"):
        RemoteMessageConsumer(url="http://127.0.0.1:9/", client_kwargs=kwargs)


def test_a_definition_has_the_documented_fields() -> None:
    definition = RemoteMessageConsumerDef(id_="c").model_dump()
    assert definition == {"id_": "c", "message_type": "default", "url": "", "client_kwargs": None}


class Publisher(MessageQueuePublisherMixin):
    def __init__(self, queue: MessageQueue) -> None:
        self._queue = queue
        self.published: list[QueueMessage] = []

    @property
    def publisher_id(self) -> str:
        return "me"

    @property
    def message_queue(self) -> MessageQueue:
        return self._queue

    @property
    def publish_callback(self) -> Any:
        return self.published.append

    def get_topic(self, msg_type: str) -> str:
        return f"llama_deploy.{msg_type}"


async def test_a_publisher_signs_and_finds_the_topic_and_calls_back() -> None:
    publisher = Publisher(MemoryMessageQueue())
    message = QueueMessage(type="t")
    await publisher.publish(message)
    assert publisher.published == [message]
    delivery = await anext(await publisher.message_queue.subscribe("llama_deploy.t"))
    assert delivery.message.publisher_id == "me"
