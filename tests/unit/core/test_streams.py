"""Readers of one stream: what is made once for all of them, what each of them holds, and how they take turns."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from arriero.core import names
from arriero.core.kernel import Kernel
from arriero.core.pages import CHUNK, MOST_OF_ONE, Page, PageCache, Pages, cut
from arriero.core.readers import Reader
from arriero.core.streams import Streams
from arriero.core.wakes import AT_ONCE, SHARE, Crowd, Wakes
from arriero.orchestrators import SimpleOrchestrator
from arriero.state_stores.base import Append, Drop, Entry, Put
from arriero.state_stores.memory import MemoryStore
from arriero.types.errors import NotFound, TooManyStreams
from arriero.types.settings import ControlPlaneConfig

LOG = names.stream_log("t")


class CountedStore(MemoryStore):
    """Counts what is read from logs and who watches them, and reads when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.let = asyncio.Event()
        self.let.set()

    async def read_log(self, log: str, after: int = 0, limit: int = 100) -> list[Entry]:
        self.reads += 1
        await self.let.wait()
        return await super().read_log(log, after, limit)

    @property
    def watched(self) -> int:
        return len(self._watchers)


class House:
    def __init__(self, store: CountedStore, kernel: Kernel) -> None:
        self.store = store
        self.kernel = kernel
        self.streams = Streams(kernel)
        self.written = 0

    def form(self, entry: Entry) -> bytes:
        self.written += 1
        return entry.value + b";"

    async def append(self, *values: bytes, end: bool = False) -> None:
        await self.store.commit([Append(LOG, values, end)])

    async def read(self, after: int = 0, silence: float | None = None) -> Reader:
        return await self.streams.read("t", self.form, after, silence)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with CountedStore() as store:
        await store.commit([Put(names.TASKS, "t", b"{}"), Append(LOG, ())])
        kernel = Kernel(store, None, SimpleOrchestrator(0, None), ControlPlaneConfig(max_streams=50))
        yield House(store, kernel)
        await kernel.background.aclose()


async def all_of(reader: Reader) -> bytes:
    parts = []
    while (text := await reader.next()) is not None:
        parts.append(text)
    reader.close()
    return b"".join(parts)


async def settled() -> None:
    """Everything that can go on without news has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


def numbers(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


def told(first: int, last: int) -> bytes:
    return b"".join(value + b";" for value in numbers(first, last))


@pytest.mark.shows("stream.shared")
async def test_an_entry_is_read_and_written_once_for_all_readers(house: House) -> None:
    readers = [asyncio.ensure_future(all_of(await house.read())) for _ in range(50)]
    for start in range(1, 101, 10):
        await house.append(*numbers(start, start + 9))
        await settled()
    await house.append(b"end", end=True)
    assert await asyncio.gather(*readers) == [told(1, 100) + b"end;"] * 50
    assert house.written == 101
    assert 1 <= house.store.reads <= 11


@pytest.mark.shows("stream.woken")
async def test_readers_that_wait_share_one_watch_and_the_last_one_frees_everything(house: House) -> None:
    readers = [await house.read() for _ in range(20)]
    await house.append(*numbers(1, 10))
    for reader in readers:
        assert await reader.next() == told(1, 10)
    assert house.store.watched == 1
    assert house.streams.open == 20
    assert house.streams.cache.size > 0
    for reader in readers:
        reader.close()
    await settled()
    assert (house.store.watched, house.streams.open, house.streams.cache.size) == (0, 0, 0)


async def test_readers_who_come_at_the_same_time_wait_for_the_same_read(house: House) -> None:
    await house.append(*numbers(1, 10), end=True)
    readers = [await house.read() for _ in range(20)]
    house.store.let.clear()
    reading = [asyncio.ensure_future(all_of(reader)) for reader in readers]
    await settled()
    reading[0].cancel()
    house.store.let.set()
    assert await asyncio.gather(*reading[1:]) == [told(1, 10)] * 19
    assert house.store.reads == 1


@pytest.mark.shows("stream.once")
async def test_a_late_reader_gets_history_and_then_what_comes_without_gap_or_repeat(house: House) -> None:
    await house.append(*numbers(1, 500))
    early = asyncio.ensure_future(all_of(await house.read(after=490)))
    await settled()
    late = asyncio.ensure_future(all_of(await house.read()))
    for start in range(501, 1001, 7):
        await house.append(*numbers(start, min(start + 6, 1000)))
        await asyncio.sleep(0)
    await house.append(end=True)
    assert await late == told(1, 1000)
    assert await early == told(491, 1000)


async def test_a_stream_that_has_ended_is_read_from_any_place(house: House) -> None:
    await house.append(*numbers(1, 30), end=True)
    for after in (0, 1, 17, 29, 30):
        reader = await house.read(after)
        assert reader.at_end is (after == 30)
        assert await all_of(reader) == told(after + 1, 30)


@pytest.mark.parametrize("ended", [False, True])
async def test_a_cursor_beyond_the_stream_is_refused(house: House, ended: bool) -> None:
    await house.append(*numbers(1, 3), end=ended)
    with pytest.raises(NotFound, match="which has 3 entries"):
        await house.read(after=4)
    assert house.streams.open == 0


async def test_no_more_streams_are_open_than_may_be(house: House) -> None:
    readers = [await house.read() for _ in range(50)]
    with pytest.raises(TooManyStreams, match="CONTROL_PLANE_MAX_STREAMS") as refused:
        await house.read()
    assert refused.value.retry_after == 1.0
    readers[0].close()
    readers[0].close()
    await house.read()
    with pytest.raises(TooManyStreams):
        await house.read()


async def test_a_large_entry_comes_in_parts_and_small_ones_together(house: House) -> None:
    large = b"x" * (5 * CHUNK)
    await house.append(b"1", b"2", large, b"4", b"5", end=True)
    reader = await house.read()
    parts = []
    while (text := await reader.next()) is not None:
        parts.append(text)
    assert b"".join(parts) == b"1;2;" + large + b";4;5;"
    assert max(map(len, parts)) == CHUNK
    assert len(parts) == 8


async def test_a_reader_that_is_behind_takes_what_others_took_bit_by_bit_at_once(house: House) -> None:
    first, second = await house.read(), await house.read()
    for number in range(1, 101):
        await house.append(b"%d" % number)
        assert await first.next() == b"%d;" % number
    assert await second.next() == told(1, 100)
    assert house.written == 100


async def test_silence_is_told_and_news_are_not_silence(house: House) -> None:
    reader = await house.read(silence=0.01)
    assert [await reader.next() for _ in range(3)] == [b""] * 3
    await house.append(b"1")
    while (text := await reader.next()) == b"":
        pass
    assert text == b"1;"
    reader.close()


async def test_a_reader_that_leaves_while_it_waits_gets_the_end(house: House) -> None:
    reader = await house.read()
    waiting = asyncio.ensure_future(reader.next())
    await settled()
    reader.close()
    assert await waiting is None


async def test_a_stream_that_goes_with_its_task_ends_for_its_readers(house: House) -> None:
    await house.append(*numbers(1, 3))
    reader = await house.read()
    assert await reader.next() == told(1, 3)
    waiting = asyncio.ensure_future(reader.next())
    await settled()
    await house.store.commit([Drop(LOG)])
    assert await waiting is None


async def test_when_everything_is_to_end_so_do_the_streams_that_are_open_and_those_that_come(house: House) -> None:
    reader = await house.read()
    waiting = asyncio.ensure_future(reader.next())
    await settled()
    house.kernel.waits.end()
    assert await waiting is None
    assert await (await house.read()).next() is None


async def test_a_store_that_is_closed_ends_the_streams(house: House) -> None:
    reader = await house.read()
    waiting = asyncio.ensure_future(reader.next())
    await settled()
    await house.store.aclose()
    assert await waiting is None


@pytest.mark.shows("stream.once")
@pytest.mark.parametrize("seed", range(20))
async def test_whoever_comes_whenever_gets_what_follows_once_and_in_order(house: House, seed: int) -> None:
    chance = random.Random(seed)
    values = [b"%d " % n + b"x" * chance.choice([0, 5, 300, CHUNK // 3, 2 * CHUNK]) for n in range(150)]

    async def visit(start: int) -> None:
        """Read on behind that entry, leave, come back, until the end; a reader may be slow."""
        after, text, expected = start, b"", b"".join(value + b";" for value in values[start:])
        while text != expected:
            reader = await house.read(after, silence=chance.choice([None, 0.001]))
            for _ in range(chance.choice([1, 3, 1000])):
                if (more := await reader.next()) is None:
                    break
                text += more
                await asyncio.sleep(chance.choice([0, 0, 0, 0.001]))
            reader.close()
            assert expected.startswith(text)
            after = reader.after
            text = text[: sum(len(value) + 1 for value in values[start:after])]  # what was cut off comes again

    visits = []
    at = 0
    while at < len(values):
        count = chance.choice([1, 1, 2, 10])
        await house.append(*values[at : at + count])
        at = min(len(values), at + count)
        if chance.random() < 0.3:
            visits.append(asyncio.ensure_future(visit(chance.randrange(at + 1))))
        for _ in range(chance.choice([0, 1, 20])):
            await asyncio.sleep(0)
    await house.append(end=True)
    await asyncio.gather(*visits)
    await settled()
    assert (house.streams.open, house.streams.cache.size, house.store.watched) == (0, 0, 0)


# Pages


def test_pages_of_one_stream_and_of_all_are_bounded() -> None:
    cache = PageCache(most=3 * MOST_OF_ONE)
    streams = [Pages(cache) for _ in range(5)]
    for pages in streams:
        for after in range(400):
            pages.keep((bytes, after), Page(after + 1, b"x" * CHUNK))
            assert pages.size <= MOST_OF_ONE
            assert cache.size <= 3 * MOST_OF_ONE
    assert len(streams[0]) == 0
    assert all(len(pages) > 0 for pages in streams[2:])
    assert cache.size == sum(pages.size for pages in streams)
    for pages in streams:
        pages.close()
        pages.keep((bytes, 0), Page(1, b"x"))
    assert cache.size == 0


def test_a_page_that_is_replaced_counts_once() -> None:
    cache = PageCache()
    pages = Pages(cache)
    for size in (10, 1000, 5):
        pages.keep((bytes, 0), Page(1, b"x" * size))
    assert (cache.size, len(pages)) == (pages.size, 1)
    pages.close()
    assert (cache.size, pages.size) == (0, 0)


def test_entries_are_cut_where_a_page_is_full() -> None:
    sizes = [CHUNK - 1, 1, 1, CHUNK, CHUNK + 1, 0, 5]
    entries = [Entry(number, b"x" * size) for number, size in enumerate(sizes, 1)]
    pages = list(cut(lambda entry: entry.value, entries))
    assert [(page.last, len(page.text)) for page in pages] == [
        (2, CHUNK),
        (3, 1),
        (4, CHUNK),
        (5, CHUNK + 1),
        (7, 5),
    ]


# Turns


async def test_a_crowd_goes_on_a_few_at_a_time_while_the_loop_does_other_things() -> None:
    wakes, crowd = Wakes(), Crowd()
    waiters = [asyncio.get_running_loop().create_future() for _ in range(100)]
    wakes.add(crowd, waiters)
    done = [0]
    while done[-1] < 100:
        await asyncio.sleep(0)
        done.append(sum(waiter.done() for waiter in waiters))
    steps = [later - earlier for earlier, later in itertools.pairwise(done)]
    assert max(steps[1:]) <= AT_ONCE
    assert len(steps) >= 100 // AT_ONCE


async def test_a_small_crowd_does_not_wait_for_a_large_one() -> None:
    wakes, large, small = Wakes(), Crowd(), Crowd()
    loop = asyncio.get_running_loop()
    wakes.add(large, [loop.create_future() for _ in range(1000)])
    mine = loop.create_future()
    wakes.add(small, [mine])
    await mine
    assert len(large.due) >= 1000 - 2 * AT_ONCE - 2 * SHARE


async def test_who_stopped_waiting_takes_no_turn() -> None:
    wakes, crowd = Wakes(), Crowd()
    loop = asyncio.get_running_loop()
    gone = [loop.create_future() for _ in range(100)]
    for waiter in gone:
        waiter.cancel()
    mine = loop.create_future()
    wakes.add(crowd, [*gone, mine])
    assert mine.done()
    for waiter in gone:
        with suppress(asyncio.CancelledError):
            await waiter
