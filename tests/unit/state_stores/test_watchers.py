import asyncio

import pytest

from arriero.state_stores.base import Head
from arriero.state_stores.watchers import Watchers
from arriero.types.errors import StoreUnavailable


class Log:
    """A head that is read when the test lets it be."""

    def __init__(self, seq: int = 0) -> None:
        self.head = Head(seq)
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def read(self, log: str) -> Head:
        self.asked.set()
        await self.may_answer.wait()
        return self.head


async def test_closing_a_watch_forgets_the_watcher() -> None:
    watchers = Watchers()
    heads = watchers.watch("log", Log().read)
    await anext(heads)
    assert len(watchers) == 1
    await heads.aclose()
    assert len(watchers) == 0


async def test_a_cancelled_watcher_is_forgotten() -> None:
    watchers = Watchers()
    heads = watchers.watch("log", Log().read)
    await anext(heads)
    waiting = asyncio.ensure_future(anext(heads))
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert len(watchers) == 0


async def test_a_watcher_cancelled_before_its_first_head_is_forgotten() -> None:
    watchers, log = Watchers(), Log()
    log.may_answer.clear()
    waiting = asyncio.ensure_future(anext(watchers.watch("log", log.read)))
    await log.asked.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert len(watchers) == 0


async def test_an_ended_watch_is_forgotten() -> None:
    watchers, log = Watchers(), Log()
    log.head = Head(3, ended=True)
    assert [head async for head in watchers.watch("log", log.read)] == [log.head]
    assert len(watchers) == 0


async def test_news_while_the_head_is_read_replaces_it_and_is_given_once() -> None:
    watchers, log = Watchers(), Log(1)
    log.may_answer.clear()
    heads = watchers.watch("log", log.read)
    first = asyncio.ensure_future(anext(heads))
    await log.asked.wait()
    watchers.tell("log", Head(2))
    log.may_answer.set()
    assert await first == Head(2)
    waiting = asyncio.ensure_future(anext(heads))
    await asyncio.wait([waiting], timeout=0)
    assert not waiting.done()
    watchers.tell("log", Head(3))
    assert await waiting == Head(3)
    await heads.aclose()


async def test_the_last_news_is_given_before_the_close_is() -> None:
    watchers = Watchers()
    heads = watchers.watch("log", Log().read)
    await anext(heads)
    watchers.tell("log", Head(1))
    watchers.close()
    assert await anext(heads) == Head(1)
    with pytest.raises(StoreUnavailable):
        await anext(heads)
    assert len(watchers) == 0


async def test_the_same_head_is_news_after_a_drop() -> None:
    watchers = Watchers()
    heads = watchers.watch("log", Log(1).read)
    assert await anext(heads) == Head(1)
    watchers.tell("log", Head(0))
    watchers.tell("log", Head(1))
    assert await anext(heads) == Head(1)
    await heads.aclose()
