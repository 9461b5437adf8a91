import asyncio
import logging

import pytest

from arriero.message_queues import CallableMessageConsumer, MemoryMessageQueue
from arriero.message_queues.registrations import Registration, Retry
from arriero.types.errors import ConfigurationError, QueueUnavailable, Unavailable
from arriero.types.messages import QueueMessage


def make_queue() -> MemoryMessageQueue:
    queue = MemoryMessageQueue()
    queue.retry = Retry(attempts=3, first=0.001)
    return queue


class Steps:
    """A handler that takes its outcomes from a list, and says when it has seen so many messages."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.seen: list[str] = []
        self.changed = asyncio.Event()

    async def __call__(self, message: QueueMessage) -> None:
        self.seen.append(message.id_)
        self.changed.set()
        if self.outcomes and (outcome := self.outcomes.pop(0)) is not None:
            raise outcome

    async def wait_for(self, count: int) -> None:
        while len(self.seen) < count:
            self.changed.clear()
            await self.changed.wait()


def test_delays_grow_up_to_the_longest() -> None:
    retry = Retry(first=1.0, factor=2.0, longest=5.0)
    assert [retry.delay(failures) for failures in (1, 2, 3, 4, 1_000_000)] == [1.0, 2.0, 4.0, 5.0, 5.0]


async def test_failures_are_counted_for_each_message_apart() -> None:
    queue, steps = make_queue(), Steps(ValueError("1"), ValueError("2"))
    await queue.register_consumer(CallableMessageConsumer(message_type="t", handler=steps))
    await queue.launch_local()
    for _ in range(2):
        await queue.publish(QueueMessage(type="t"))
    await steps.wait_for(4)
    await queue.cleanup()
    assert await queue.dead_letters("t") == []


async def test_an_unreachable_consumer_leaves_its_message_to_another() -> None:
    queue = make_queue()
    queue.retry = Retry(attempts=3, first=60.0)
    away, there = Steps(Unavailable("away")), Steps()
    start = await queue.register_consumer(CallableMessageConsumer(message_type="t", handler=away))
    running = asyncio.ensure_future(start())
    await queue.publish(QueueMessage(type="t", id_="1"))
    await away.wait_for(1)
    await queue.register_consumer(CallableMessageConsumer(message_type="t", handler=there))
    await queue.launch_local()
    await queue.publish(QueueMessage(type="t", id_="2"))
    await queue.publish(QueueMessage(type="t", id_="3"))
    await there.wait_for(2)
    assert away.seen == ["1"]
    await queue.cleanup()
    await running


async def test_a_queue_that_is_away_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    queue, steps, refusals = make_queue(), Steps(), [QueueUnavailable("away"), QueueUnavailable("away")]

    async def subscribe(topic: str) -> object:
        if refusals:
            raise refusals.pop()
        return await queue.subscribe(topic)

    consumer = CallableMessageConsumer(message_type="t", handler=steps)
    registration = Registration(consumer, "t", subscribe, queue.retry)  # type: ignore[arg-type] # it is a Subscription
    running = asyncio.ensure_future(registration.run())
    await queue.publish(QueueMessage(type="t"))
    with caplog.at_level(logging.WARNING):
        await steps.wait_for(1)
    await registration.end()
    await running
    assert caplog.text.count("lost its queue") == 2


async def test_deregistering_within_the_handler_ends_the_loop_after_the_message() -> None:
    queue = make_queue()

    async def leave(_: QueueMessage) -> None:
        await queue.deregister_consumer(consumer)

    consumer = CallableMessageConsumer(message_type="t", handler=leave)
    start = await queue.register_consumer(consumer)
    await queue.publish(QueueMessage(type="t"))
    await queue.publish(QueueMessage(type="t"))
    await start()
    assert await queue.depth("t") == 1


async def test_a_second_start_waits_for_the_first_and_takes_nothing_twice() -> None:
    queue, steps = make_queue(), Steps()
    consumer = CallableMessageConsumer(message_type="t", handler=steps)
    start = await queue.register_consumer(consumer)
    runs = [asyncio.ensure_future(start()) for _ in range(2)]
    await queue.publish(QueueMessage(type="t"))
    await steps.wait_for(1)
    await queue.deregister_consumer(consumer)
    await asyncio.gather(*runs)
    assert len(steps.seen) == 1


async def test_a_consumer_that_was_cancelled_can_start_again() -> None:
    queue, steps = make_queue(), Steps()
    start = await queue.register_consumer(CallableMessageConsumer(message_type="t", handler=steps))
    first = asyncio.ensure_future(start())
    await queue.publish(QueueMessage(type="t"))
    await steps.wait_for(1)
    first.cancel()
    await asyncio.wait({first})
    second = asyncio.ensure_future(start())
    await queue.publish(QueueMessage(type="t"))
    await steps.wait_for(2)
    await queue.cleanup()
    await second


async def test_a_queue_that_its_broker_serves_says_so() -> None:
    with pytest.raises(ConfigurationError, match="broker"):
        await MemoryMessageQueue().launch_server()


async def test_cleanup_local_takes_the_types_that_it_is_given() -> None:
    queue = make_queue()
    for message_type in ("a", "b"):
        await queue.register_consumer(CallableMessageConsumer(message_type=message_type, handler=Steps()))
    await queue.cleanup_local(["a"])
    assert [list(map(len, [await queue.get_consumers(name)])) for name in ("a", "b")] == [[0], [1]]
