import asyncio

import pytest

from arriero.message_queues.inbox import Inbox


async def test_items_come_in_order_to_one_who_waits() -> None:
    inbox: Inbox[int] = Inbox()
    waiting = asyncio.ensure_future(anext(inbox))
    await asyncio.sleep(0)
    inbox.put(1)
    inbox.put(2)
    assert [await waiting, await anext(inbox)] == [1, 2]


async def test_a_cancelled_wait_loses_nothing() -> None:
    inbox: Inbox[int] = Inbox()
    waiting = asyncio.ensure_future(anext(inbox))
    await asyncio.sleep(0)
    inbox.put(1)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert len(inbox) == 1
    assert await anext(inbox) == 1


async def test_closing_forgets_what_was_not_taken_and_ends_every_wait() -> None:
    inbox: Inbox[int] = Inbox()
    waits = [asyncio.ensure_future(anext(inbox)) for _ in range(2)]
    await asyncio.sleep(0)
    inbox.close()
    for wait in waits:
        with pytest.raises(StopAsyncIteration):
            await wait
    inbox.put(1)
    assert [item async for item in inbox] == []


async def test_an_error_is_raised_once_and_then_the_end_is_reached() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.put(1)
    inbox.close(ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        await anext(inbox)
    with pytest.raises(StopAsyncIteration):
        await anext(inbox)
