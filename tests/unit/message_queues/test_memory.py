import pytest

from arriero.message_queues import MemoryMessageQueue
from arriero.message_queues.memory import TopicFull
from arriero.message_queues.topics import Limits
from arriero.types.errors import InvalidInput, PayloadTooLarge, QueueUnavailable
from arriero.types.messages import QueueMessage


@pytest.mark.shows("ring.hint")
async def test_a_full_topic_refuses_what_matters_and_drops_what_is_transient() -> None:
    queue = MemoryMessageQueue(limits=Limits(depth=2))
    await queue.publish(QueueMessage(type="t"))
    await queue.publish(QueueMessage(type="t"))
    with pytest.raises(TopicFull, match="max_depth") as refusal:
        await queue.publish(QueueMessage(type="t"))
    assert refusal.value.retry_after
    await queue.publish(QueueMessage(type="t"), transient=True)
    assert await queue.depth("t") == 2


async def test_a_message_beyond_the_limit_is_refused() -> None:
    queue = MemoryMessageQueue(limits=Limits(message_bytes=1000))
    with pytest.raises(PayloadTooLarge, match="1000"):
        await queue.publish(QueueMessage(type="t", data={"x": "x" * 1000}))
    assert await queue.depth("t") == 0


async def test_idle_topics_make_room_for_new_ones() -> None:
    queue = MemoryMessageQueue(limits=Limits(topics=2))
    await queue.publish(QueueMessage(type="busy"))
    for number in range(10):
        await (await queue.subscribe(f"passing.{number}")).aclose()
    assert await queue.depth("busy") == 1
    await queue.publish(QueueMessage(type="also busy"))
    with pytest.raises(QueueUnavailable, match="2 topics"):
        await queue.publish(QueueMessage(type="one too many"))


@pytest.mark.parametrize("prefetch", [0, -1, 10_001])
async def test_a_prefetch_out_of_range_is_refused(prefetch: int) -> None:
    with pytest.raises(InvalidInput, match="prefetch"):
        await MemoryMessageQueue().subscribe("t", prefetch)


@pytest.mark.parametrize("name", ["", "x" * 1001])
async def test_a_topic_has_a_name_of_some_length(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        await MemoryMessageQueue().subscribe(name)


async def test_closing_ends_subscriptions_and_keeps_messages() -> None:
    queue = MemoryMessageQueue()
    async with queue:
        subscription = await queue.subscribe("t", 2)
        await queue.publish(QueueMessage(type="t"))
        await queue.publish(QueueMessage(type="t"))
        await (await anext(subscription)).nack(60.0)
        await anext(subscription)
    assert [delivery async for delivery in subscription] == []
    assert await queue.depth("t") == 2
