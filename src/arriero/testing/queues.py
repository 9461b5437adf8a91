"""The contract of a message queue, as tests that every backend runs.

Subclass :class:`MessageQueueContract` in a test module and override its fixture ``connect``; override ``cut`` and
``put_unreadable`` where the broker allows them. The tests are coroutines: run them with pytest-asyncio's auto mode.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest

from arriero.message_queues.base import Delivery, MessageQueue, Retry, Subscription
from arriero.message_queues.consumers import CallableMessageConsumer
from arriero.types.errors import ConfigurationError, InvalidInput, NotFound, TransientError
from arriero.types.ids import generate_id
from arriero.types.messages import ActionTypes, QueueMessage

Connect = Callable[[], MessageQueue]

#: Seconds after which what should arrive is taken for lost.
PATIENCE = 20.0
#: The delay in seconds that the kit asks for, and how much earlier a broker's clock may end it.
DELAY, EARLY = 0.3, 0.05
FEW = 5
SOME = 100
MANY = 10_000
IN_FLIGHT = 100
LARGE = 1024 * 1024


def message(number: int = 0, **fields: Any) -> QueueMessage:
    """A message with a number in it."""
    return QueueMessage(data={"number": number}, **fields)


def number(delivery: Delivery) -> int:
    """The number in a delivery."""
    return int(delivery.message.data["number"])


async def take(subscription: Subscription) -> Delivery:
    """The next delivery, which is not acknowledged yet."""
    async with asyncio.timeout(PATIENCE):
        return await subscription.__anext__()


async def take_all(subscription: Subscription, count: int) -> list[int]:
    """The numbers of the next deliveries, each acknowledged."""
    numbers = []
    for _ in range(count):
        delivery = await take(subscription)
        numbers.append(number(delivery))
        await delivery.ack()
    return numbers


async def publish_all(queue: MessageQueue, topic: str, numbers: Iterable[int], **options: Any) -> None:
    """Publish messages one after the other."""
    for each in numbers:
        await queue.publish(message(each), topic=topic, **options)


class Recorder:
    """A consumer's function that remembers what it was given, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.numbers: list[int] = []
        self._failures = failures
        self._grew = asyncio.Event()

    async def __call__(self, received: QueueMessage) -> None:
        """Take one message."""
        self.numbers.append(int(received.data["number"]))
        self._grew.set()
        if self._failures:
            self._failures -= 1
            raise TransientError("not yet")

    async def wait_for(self, count: int) -> list[int]:
        """What was given, once there is so much of it."""
        async with asyncio.timeout(PATIENCE):
            while len(self.numbers) < count:
                self._grew.clear()
                await self._grew.wait()
        return self.numbers


class MessageQueueContract:
    """What every message queue keeps. Each test has a topic of its own."""

    @pytest.fixture
    def connect(self) -> Connect:
        """A function that makes one more queue on the same broker; the kit opens and closes it."""
        raise NotImplementedError("override the fixture `connect`")

    @pytest.fixture
    def cut(self) -> Callable[[], None] | None:
        """A function that drops the connections to the broker, as :class:`arriero.testing.relay.Relay` does."""
        return None

    @pytest.fixture
    def put_unreadable(self) -> Callable[[str], Awaitable[None]] | None:
        """A coroutine function that puts on a topic, past the library, what is no message."""
        return None

    @pytest.fixture
    async def queue(self, connect: Connect) -> AsyncIterator[MessageQueue]:
        """A connection."""
        async with connect() as queue:
            queue.retry = Retry(attempts=3, first=0.01)
            yield queue

    @pytest.fixture
    async def other(self, connect: Connect) -> AsyncIterator[MessageQueue]:
        """A second connection to the same broker."""
        async with connect() as queue:
            yield queue

    @pytest.fixture
    def topic(self) -> str:
        """A topic that no other test uses."""
        return f"kit.{generate_id()}"

    # Delivery

    async def test_a_message_arrives_as_it_was_published(self, queue: MessageQueue, topic: str) -> None:
        sent = message(7, action=ActionTypes.NEW_TASK, type="någon", publisher_id="me", headers={"traceparent": "00-1"})
        sent.data["text"] = "ünïcode \x00 \U0001f999"
        subscription = await queue.subscribe(topic)
        await queue.publish(sent, topic=topic)
        delivery = await take(subscription)
        await delivery.ack()
        assert delivery.message == sent

    async def test_what_is_changed_after_publish_arrives_as_it_was(self, queue: MessageQueue, topic: str) -> None:
        sent = message(1)
        await queue.publish(sent, topic=topic)
        sent.data["number"] = 2
        assert await take_all(await queue.subscribe(topic), 1) == [1]

    async def test_a_large_message_arrives_whole(self, queue: MessageQueue, topic: str) -> None:
        await queue.publish(QueueMessage(data={"text": "x" * LARGE}), topic=topic)
        delivery = await take(await queue.subscribe(topic))
        await delivery.ack()
        assert len(delivery.message.data["text"]) == LARGE

    async def test_data_that_is_not_json_is_refused(self, queue: MessageQueue, topic: str) -> None:
        with pytest.raises(InvalidInput):
            await queue.publish(QueueMessage(data={"object": object()}), topic=topic)

    async def test_a_message_waits_for_the_first_consumer(
        self, queue: MessageQueue, other: MessageQueue, topic: str
    ) -> None:
        await publish_all(queue, topic, [1])
        assert await take_all(await other.subscribe(topic), 1) == [1]

    async def test_one_consumer_gets_messages_in_order(
        self, queue: MessageQueue, other: MessageQueue, topic: str
    ) -> None:
        subscription = await other.subscribe(topic, prefetch=FEW)
        await publish_all(queue, topic, range(SOME))
        assert await take_all(subscription, SOME) == list(range(SOME))

    async def test_a_transient_message_reaches_a_consumer_that_is_there(
        self, queue: MessageQueue, other: MessageQueue, topic: str
    ) -> None:
        subscription = await other.subscribe(topic)
        await publish_all(queue, topic, [1, 2, 3], transient=True)
        assert await take_all(subscription, 3) == [1, 2, 3]

    async def test_two_topics_have_nothing_to_do_with_each_other(self, queue: MessageQueue, topic: str) -> None:
        first, second = await queue.subscribe(f"{topic}.a"), await queue.subscribe(f"{topic}.b")
        await publish_all(queue, f"{topic}.a", [1, 2])
        await publish_all(queue, f"{topic}.b", [3])
        assert await take_all(second, 1) == [3]
        assert await take_all(first, 2) == [1, 2]

    # Competition

    async def test_each_message_goes_to_one_of_the_competing_consumers(
        self, queue: MessageQueue, other: MessageQueue, topic: str
    ) -> None:
        recorder = Recorder()
        for each in (queue, queue, other, other):
            await each.register_consumer(CallableMessageConsumer(handler=recorder), topic)
        await queue.launch_local()
        await other.launch_local()
        await publish_all(queue, topic, range(SOME))
        assert sorted(await recorder.wait_for(SOME)) == list(range(SOME))

    async def test_no_more_than_prefetch_deliveries_are_open(
        self, queue: MessageQueue, other: MessageQueue, topic: str
    ) -> None:
        full = await queue.subscribe(topic, prefetch=2)
        await publish_all(queue, topic, range(FEW))
        held = [await take(full), await take(full)]
        rest = await other.subscribe(topic, prefetch=SOME)
        assert len(await take_all(rest, FEW - 2)) == FEW - 2
        await rest.aclose()
        await publish_all(queue, topic, [FEW])
        await held[0].ack()
        assert await take_all(full, 1) == [FEW]

    async def test_a_slow_consumer_holds_nothing_up(self, queue: MessageQueue, other: MessageQueue, topic: str) -> None:
        slow = await queue.subscribe(topic)
        await publish_all(queue, topic, range(SOME))
        held = await take(slow)
        rest = await take_all(await other.subscribe(topic, prefetch=FEW), SOME - 1)
        assert sorted([number(held), *rest]) == list(range(SOME))

    async def test_many_messages_arrive_once_each(self, queue: MessageQueue, other: MessageQueue, topic: str) -> None:
        subscriptions = [await each.subscribe(topic, IN_FLIGHT) for each in (queue, other, queue, other)]
        counts: Counter[int] = Counter()

        async def consume(subscription: Subscription) -> None:
            async for delivery in subscription:
                counts[number(delivery)] += 1
                await delivery.ack()
                if counts.total() == MANY:
                    for each in subscriptions:
                        await each.aclose()

        async with asyncio.TaskGroup() as group:
            for subscription in subscriptions:
                group.create_task(consume(subscription))
            for lane in range(IN_FLIGHT):
                group.create_task(publish_all(queue, topic, range(lane, MANY, IN_FLIGHT)))
        assert counts == Counter(range(MANY))

    # Settling

    async def test_what_was_acknowledged_does_not_come_again(self, queue: MessageQueue, topic: str) -> None:
        subscription = await queue.subscribe(topic)
        await publish_all(queue, topic, [1])
        assert await take_all(subscription, 1) == [1]
        await subscription.aclose()
        await publish_all(queue, topic, [2])
        assert await take_all(await queue.subscribe(topic), 1) == [2]

    async def test_what_is_given_back_comes_again_among_the_others(self, queue: MessageQueue, topic: str) -> None:
        subscription = await queue.subscribe(topic, prefetch=FEW)
        await publish_all(queue, topic, range(FEW))
        first = await take(subscription)
        await first.nack()
        assert sorted(await take_all(subscription, FEW)) == list(range(FEW))

    async def test_what_is_given_back_with_a_delay_waits_so_long(self, queue: MessageQueue, topic: str) -> None:
        if not queue.capabilities.delays:
            pytest.skip("this broker has no delays")
        subscription = await queue.subscribe(topic)
        await publish_all(queue, topic, [1, 2])
        first = await take(subscription)
        begin = asyncio.get_running_loop().time()
        await first.nack(DELAY)
        assert await take_all(subscription, 2) == [2, 1]
        assert asyncio.get_running_loop().time() - begin >= DELAY - EARLY

    async def test_what_is_rejected_is_kept_with_its_reason(self, queue: MessageQueue, topic: str) -> None:
        subscription = await queue.subscribe(topic)
        await publish_all(queue, topic, [1, 2])
        await (await take(subscription)).reject("it is the first")
        assert await take_all(subscription, 1) == [2]
        if not queue.capabilities.dead_letters:
            pytest.skip("this broker keeps no dead letters")
        [letter] = await queue.dead_letters(topic)
        assert letter.reason == "it is the first"
        assert QueueMessage.model_validate_json(letter.body).data == {"number": 1}

    async def test_only_the_first_settling_counts(self, queue: MessageQueue, topic: str) -> None:
        subscription = await queue.subscribe(topic)
        await publish_all(queue, topic, [1])
        delivery = await take(subscription)
        await delivery.ack()
        await delivery.nack()
        await delivery.reject("too late")
        await publish_all(queue, topic, [2])
        assert await take_all(subscription, 1) == [2]

    async def test_what_cannot_be_read_is_kept_with_its_reason(
        self, queue: MessageQueue, topic: str, put_unreadable: Callable[[str], Awaitable[None]] | None
    ) -> None:
        if put_unreadable is None:
            pytest.skip("nothing but messages can be put on this queue")
        subscription = await queue.subscribe(topic)
        await put_unreadable(topic)
        await publish_all(queue, topic, [1])
        assert await take_all(subscription, 1) == [1]
        if queue.capabilities.dead_letters:
            [letter] = await queue.dead_letters(topic)
            assert letter.reason

    async def test_depth_counts_what_waits_and_not_what_is_in_delivery(self, queue: MessageQueue, topic: str) -> None:
        if not queue.capabilities.depth:
            pytest.skip("this broker does not count exactly")
        assert await queue.depth(topic) == 0
        await publish_all(queue, topic, range(FEW))
        assert await queue.depth(topic) == FEW
        subscription = await queue.subscribe(topic, prefetch=2)
        await take(subscription)
        assert await queue.depth(topic) == FEW - 2

    # Ends of subscriptions and connections

    async def test_a_closed_subscription_gives_back_what_it_held(
        self, queue: MessageQueue, other: MessageQueue, topic: str
    ) -> None:
        dying = await queue.subscribe(topic, prefetch=FEW)
        await publish_all(queue, topic, range(FEW))
        held = await take(dying)
        await dying.aclose()
        assert sorted(await take_all(await other.subscribe(topic), FEW)) == list(range(FEW))
        await held.ack()

    async def test_closing_ends_the_wait_for_a_delivery(self, queue: MessageQueue, topic: str) -> None:
        subscription = await queue.subscribe(topic)
        waiting = asyncio.ensure_future(take(subscription))
        await publish_all(queue, f"{topic}.elsewhere", [1])
        await subscription.aclose()
        await subscription.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting

    async def test_a_dropped_connection_gives_back_what_it_held(
        self, queue: MessageQueue, topic: str, cut: Callable[[], None] | None
    ) -> None:
        if cut is None:
            pytest.skip("this queue has no connection")
        subscription = await queue.subscribe(topic, prefetch=FEW)
        await publish_all(queue, topic, range(FEW))
        stale = await take(subscription)
        cut()
        await stale.ack()
        again: set[int] = set()
        while again != set(range(FEW)):
            again.add(number(await take(subscription)))

    async def test_a_dropped_connection_heals_by_itself(
        self, queue: MessageQueue, other: MessageQueue, topic: str, cut: Callable[[], None] | None
    ) -> None:
        if cut is None:
            pytest.skip("this queue has no connection")
        subscription = await other.subscribe(topic)
        for each in range(FEW):
            cut()
            await publish_all(queue, topic, [each])
            delivery = await take(subscription)
            while number(delivery) < each:
                await delivery.ack()
                delivery = await take(subscription)
            assert number(delivery) == each
            await delivery.ack()

    # The documented faces

    @pytest.mark.parametrize("order", ["callback first", "topic first"])
    async def test_publish_calls_back_in_both_documented_orders(
        self, queue: MessageQueue, topic: str, order: str
    ) -> None:
        seen: list[tuple[str, str]] = []

        async def callback(sent: QueueMessage, word: str) -> None:
            seen.append((sent.id_, word))

        sent = message(1)
        arguments: tuple[Any, Any] = (callback, topic) if order == "callback first" else (topic, callback)
        await queue.publish(sent, *arguments, word="hello")
        assert seen == [(sent.id_, "hello")]
        assert sent.stats.publish_time
        assert await take_all(await queue.subscribe(topic), 1) == [1]

    async def test_publish_without_a_topic_goes_by_the_type(self, queue: MessageQueue, topic: str) -> None:
        await queue.publish(message(1, type=topic))
        assert await take_all(await queue.subscribe(topic), 1) == [1]

    async def test_a_registered_consumer_gets_messages_until_it_is_deregistered(
        self, queue: MessageQueue, topic: str
    ) -> None:
        recorder = Recorder()
        consumer = CallableMessageConsumer(message_type=topic, handler=recorder)
        start = await queue.register_consumer(consumer)
        assert list(await queue.get_consumers(topic)) == [consumer]
        running = asyncio.ensure_future(start())
        await queue.publish(message(1, type=topic))
        await recorder.wait_for(1)
        await queue.deregister_consumer(consumer)
        async with asyncio.timeout(PATIENCE):
            await running
        assert list(await queue.get_consumers(topic)) == []
        await queue.publish(message(2, type=topic))
        assert await take_all(await queue.subscribe(topic), 1) == [2]
        assert recorder.numbers == [1]

    async def test_a_cancelled_consumer_gives_its_message_back(self, queue: MessageQueue, topic: str) -> None:
        entered = asyncio.Event()

        async def stuck(_: QueueMessage) -> None:
            entered.set()
            await asyncio.Event().wait()

        start = await queue.register_consumer(CallableMessageConsumer(message_type=topic, handler=stuck))
        running = asyncio.ensure_future(start())
        await queue.publish(message(1, type=topic))
        async with asyncio.timeout(PATIENCE):
            await entered.wait()
        running.cancel()
        await asyncio.wait({running})
        assert await take_all(await queue.subscribe(topic), 1) == [1]

    async def test_a_consumer_registers_once_for_a_topic(self, queue: MessageQueue, topic: str) -> None:
        consumer = CallableMessageConsumer(message_type=topic, handler=Recorder())
        await queue.register_consumer(consumer)
        with pytest.raises(ConfigurationError, match=topic):
            await queue.register_consumer(consumer)
        await queue.register_consumer(consumer, f"{topic}.other")

    async def test_an_unknown_consumer_cannot_be_deregistered(self, queue: MessageQueue, topic: str) -> None:
        consumer = CallableMessageConsumer(message_type=topic, handler=Recorder())
        with pytest.raises(NotFound, match=consumer.id_):
            await queue.deregister_consumer(consumer)

    async def test_a_failing_consumer_gets_the_message_again(self, queue: MessageQueue, topic: str) -> None:
        recorder = Recorder(failures=2)
        await queue.register_consumer(CallableMessageConsumer(message_type=topic, handler=recorder))
        await queue.launch_local()
        await queue.publish(message(1, type=topic))
        assert await recorder.wait_for(3) == [1, 1, 1]

    async def test_a_message_that_keeps_failing_is_given_up_and_hurts_no_other(
        self, queue: MessageQueue, topic: str
    ) -> None:
        recorder = Recorder(failures=3)
        await queue.register_consumer(CallableMessageConsumer(message_type=topic, handler=recorder))
        await queue.launch_local()
        await queue.publish(message(1, type=topic))
        await recorder.wait_for(3)
        await queue.publish(message(2, type=topic))
        assert await recorder.wait_for(4) == [1, 1, 1, 2]
        if queue.capabilities.dead_letters:
            [letter] = await queue.dead_letters(topic)
            assert letter.reason == "TransientError: not yet"

    async def test_the_processing_loop_runs_consumers_that_are_registered_later(
        self, queue: MessageQueue, topic: str
    ) -> None:
        task = await queue.launch_local()
        recorder = Recorder()
        await queue.register_consumer(CallableMessageConsumer(message_type=topic, handler=recorder))
        await queue.publish(message(1, type=topic))
        await recorder.wait_for(1)
        await queue.cleanup_local([topic])
        assert task.cancelled()
        assert list(await queue.get_consumers(topic)) == []
