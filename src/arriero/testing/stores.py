"""The contract of a state store, as tests that every backend runs.

Subclass :class:`StateStoreContract` in a test module and override its fixture ``make_store``. The tests are coroutines:
run them with pytest-asyncio's auto mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import ClassVar

import pytest

from arriero.state_stores.base import (
    Append,
    Committed,
    Delete,
    Document,
    Drop,
    Entry,
    Expect,
    Head,
    Op,
    Put,
    StateStore,
)
from arriero.types.errors import InvalidInput, LogEnded, StateConflict, StoreUnavailable

#: Gives a store that is not open yet. All that one test makes are of the same place, which was empty before.
MakeStore = Callable[[], StateStore]

#: Seconds after which what should happen is taken for lost.
PATIENCE = 20.0
FEW = 3
SOME = 50
MANY = 2_000
PAGES_OF = 1_000
DOCUMENTS = 10_000
LARGE = 1024 * 1024
LONGEST = 512
BEYOND_EVERY_LOG = 10**30

#: Values that a store must not look into.
OPAQUE = (
    b"",
    b"null",
    b'{ "a" : 1.0 }\n',
    b'{"a":1,"a":2}',
    b"\x00\xff\xfe",
    "é".encode(),
    b'{"__class__": "os.system"}',
)
#: In the order of their bytes in UTF-8, which is neither that of an alphabet nor that of UTF-16.
SORTED_KEYS = ("\x01", " ", "0", "10", "2", "A", "Z", "_", "a", "a/", "a/b", "aa", "é", "中", "\ufffd", "\U0001f600")
UNFIT_NAMES = ("", "a\0b", "x" * (LONGEST + 1), "é" * (LONGEST // 2 + 1), "\ud800")


async def outcome(work: Awaitable[Committed]) -> Committed | Exception:
    """What a commit gave or raised."""
    try:
        return await work
    except (StateConflict, LogEnded, StoreUnavailable) as error:
        return error


async def all_of(store: StateStore, collection: str) -> list[Document]:
    """A collection, page by page."""
    found: list[Document] = []
    while page := await store.scan(collection, found[-1].key if found else "", PAGES_OF):
        found += page
    return found


async def values_of(store: StateStore, log: str) -> list[bytes]:
    """A log's values, page by page, after a look at the order of its entries."""
    found: list[Entry] = []
    while page := await store.read_log(log, found[-1].seq if found else 0, PAGES_OF):
        found += page
    assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
    return [entry.value for entry in found]


def watching(store: StateStore, log: str) -> aclosing[AsyncGenerator[Head, None]]:
    """A watch that is closed at the end of its block."""
    return aclosing(store.watch(log))


async def coming(heads: AsyncIterator[Head]) -> Head:
    """The next head of a watch."""
    async with asyncio.timeout(PATIENCE):
        return await anext(heads)


class StateStoreContract:
    """What every store promises. A backend that differs declares it below, and is held to that."""

    #: Whether a store finds what another on the same place has committed and closed.
    persistent: ClassVar[bool] = True

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Override this with what makes stores of one fresh place."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, make_store: MakeStore) -> AsyncIterator[StateStore]:
        """An open store with nothing in it."""
        async with make_store() as store:
            yield store

    # Documents

    @pytest.mark.parametrize("value", OPAQUE)
    async def test_a_value_is_read_back_byte_for_byte(self, store: StateStore, value: bytes) -> None:
        committed = await store.commit([Put("c", "k", value)])
        assert await store.get("c", "k") == Document("k", value, committed.version)
        assert await store.scan("c") == [Document("k", value, committed.version)]

    async def test_a_large_value_is_read_back(self, store: StateStore) -> None:
        value = bytes(range(256)) * (LARGE // 256)
        await store.commit([Put("c", "k", value), Append("log", (value, value))])
        document = await store.get("c", "k")
        assert document is not None
        assert document.value == value
        assert await values_of(store, "log") == [value, value]

    async def test_what_does_not_exist_is_none(self, store: StateStore) -> None:
        await store.commit([Put("c", "k", b"1")])
        assert await store.get("c", "other") is None
        assert await store.get("other", "k") is None
        assert await store.scan("other") == []

    async def test_collections_do_not_mix(self, store: StateStore) -> None:
        await store.commit([Put("a", "b/c", b"1"), Put("a/b", "c", b"2")])
        assert [(document.key, document.value) for document in await store.scan("a")] == [("b/c", b"1")]
        assert [(document.key, document.value) for document in await store.scan("a/b")] == [("c", b"2")]

    async def test_a_collection_is_read_backwards_from_its_end_or_from_any_key(self, store: StateStore) -> None:
        keys = ["a", "a/b", "b", "z", "\u00e9", "\U0001f999"]
        await store.commit([Put("c", key, b"1") for key in keys])
        await store.commit([Put("b", "before", b"1"), Put("d", "behind", b"1")])
        back = await store.scan("c", backwards=True)
        assert [document.key for document in back] == keys[::-1]
        assert [document.key for document in await store.scan("c", "z", 2, backwards=True)] == ["b", "a/b"]
        assert [document.key for document in await store.scan("c", "y", 1, backwards=True)] == ["b"]
        assert await store.scan("c", "a", backwards=True) == []
        assert await store.scan("c", limit=0, backwards=True) == []

    async def test_a_deleted_document_is_gone(self, store: StateStore) -> None:
        await store.commit([Put("c", "k", b"1"), Put("c", "kept", b"2")])
        await store.commit([Delete("c", "k"), Delete("c", "never was")])
        assert await store.get("c", "k") is None
        assert [document.key for document in await store.scan("c")] == ["kept"]

    async def test_every_commit_has_a_version_greater_than_those_before(self, store: StateStore) -> None:
        versions = [(await store.commit([Put("c", str(number % FEW), b"1")])).version for number in range(SOME)]
        assert versions == sorted(set(versions))
        assert versions[0] > 0

    async def test_all_that_a_commit_puts_has_its_version(self, store: StateStore) -> None:
        committed = await store.commit([Put("c", "a", b"1"), Put("d", "b", b"2")])
        documents = [*await store.scan("c"), *await store.scan("d")]
        assert [document.version for document in documents] == [committed.version] * 2

    async def test_what_must_not_exist_is_created_once(self, store: StateStore) -> None:
        await store.commit([Put("c", "k", b"1", expect=0)])
        with pytest.raises(StateConflict):
            await store.commit([Put("c", "k", b"2", expect=0)])
        document = await store.get("c", "k")
        assert document is not None
        assert document.value == b"1"

    async def test_only_the_version_expected_is_replaced_or_deleted(self, store: StateStore) -> None:
        first = await store.commit([Put("c", "k", b"1")])
        second = await store.commit([Put("c", "k", b"2", expect=first.version)])
        refused: list[Op] = [Put("c", "k", b"3", expect=first.version), Delete("c", "k", expect=first.version)]
        for op in refused:
            with pytest.raises(StateConflict):
                await store.commit([op])
        assert await store.get("c", "k") == Document("k", b"2", second.version)
        await store.commit([Delete("c", "k", expect=second.version)])
        assert await store.get("c", "k") is None

    async def test_an_expectation_guards_what_it_does_not_change(self, store: StateStore) -> None:
        guard = await store.commit([Put("c", "guard", b"1")])
        await store.commit([Expect("c", "guard", guard.version), Expect("c", "none", 0), Put("c", "k", b"1")])
        for wrong in (Expect("c", "guard", guard.version + 1), Expect("c", "guard", 0), Expect("c", "none", 1)):
            with pytest.raises(StateConflict):
                await store.commit([Put("c", "k", b"2"), wrong])
        document = await store.get("c", "k")
        assert document is not None
        assert document.value == b"1"

    async def test_a_version_is_never_given_again(self, store: StateStore) -> None:
        first = await store.commit([Put("c", "k", b"1")])
        await store.commit([Delete("c", "k")])
        again = await store.commit([Put("c", "k", b"1", expect=0)])
        assert again.version > first.version
        with pytest.raises(StateConflict):
            await store.commit([Put("c", "k", b"2", expect=first.version)])

    async def test_expectations_look_at_what_stood_before_the_commit(self, store: StateStore) -> None:
        await store.commit([Put("c", "k", b"1", expect=0), Put("c", "k", b"2", expect=0), Put("c", "gone", b"1")])
        document = await store.get("c", "k")
        assert document is not None
        assert document.value == b"2"
        await store.commit([Delete("c", "k"), Put("c", "k", b"3", expect=document.version), Delete("c", "gone")])
        assert [document.value for document in await store.scan("c")] == [b"3"]

    async def test_a_commit_of_nothing_is_one(self, store: StateStore) -> None:
        before = await store.commit([Put("c", "k", b"1")])
        assert (await store.commit([])).version > before.version

    @pytest.mark.parametrize("name", UNFIT_NAMES)
    async def test_an_unfit_name_is_refused_before_anything_is_stored(self, store: StateStore, name: str) -> None:
        unfit: list[Op] = [Put(name, "k", b"1"), Put("c", name, b"1"), Delete("c", name), Expect("c", name, 0)]
        for op in [*unfit, Append(name, (b"1",)), Drop(name)]:
            with pytest.raises(InvalidInput):
                await store.commit([Put("c", "k", b"1"), op])
        for read in (store.get("c", name), store.get(name, "k"), store.scan(name), store.read_log(name)):
            with pytest.raises(InvalidInput):
                await read
        assert await store.get("c", "k") is None

    async def test_the_longest_names_are_taken(self, store: StateStore) -> None:
        name = "é" * (LONGEST // 2)
        await store.commit([Put(name, name, b"1"), Append(name, (b"1",))])
        assert [document.key for document in await store.scan(name)] == [name]
        assert await values_of(store, name) == [b"1"]

    # All or nothing

    @pytest.mark.parametrize("failing", [Expect("c", "old", 0), Put("c", "none", b"1", 9), Append("ended", (b"1",))])
    async def test_a_commit_that_fails_leaves_nothing(self, store: StateStore, failing: Op) -> None:
        old = await store.commit([Put("c", "old", b"1"), Append("log", (b"1",)), Append("ended", (), end=True)])
        changes: list[Op] = [Put("c", "new", b"1"), Delete("c", "old"), Append("log", (b"2",)), Drop("log")]
        for position in range(len(changes) + 1):
            with pytest.raises((StateConflict, LogEnded)):
                await store.commit([*changes[:position], failing, *changes[position:]])
        assert await store.scan("c") == [Document("old", b"1", old.version)]
        assert await values_of(store, "log") == [b"1"]
        assert await store.head("ended") == Head(0, ended=True)

    async def test_one_of_many_conflicting_commits_wins(self, store: StateStore) -> None:
        start = await store.commit([Put("c", "k", b"start")])
        outcomes = await asyncio.gather(
            *(outcome(store.commit([Put("c", "k", b"%d" % n, start.version)])) for n in range(SOME))
        )
        winners = [n for n, result in enumerate(outcomes) if isinstance(result, Committed)]
        assert len(winners) == 1
        assert sum(isinstance(result, StateConflict) for result in outcomes) == SOME - 1
        document = await store.get("c", "k")
        assert document is not None
        assert document.value == b"%d" % winners[0]

    async def test_a_conflict_leaves_its_neighbours_standing(self, store: StateStore) -> None:
        await store.commit([Put("c", "taken", b"1"), Append("ended", (), end=True)])
        failing: list[Op] = [Put("c", "taken", b"2", expect=0), Append("ended", (b"1",))]
        commits: list[list[Op]] = [
            [Put("c", f"{n:02}", b"1"), Append("log", (b"%d" % n,)), *failing[n % FEW : n % FEW + 1]]
            for n in range(SOME)
        ]
        outcomes = await asyncio.gather(*(outcome(store.commit(ops)) for ops in commits))
        good = [n for n in range(SOME) if n % FEW >= len(failing)]
        assert [n for n, result in enumerate(outcomes) if isinstance(result, Committed)] == good
        assert [document.key for document in await store.scan("c")] == [*(f"{n:02}" for n in good), "taken"]
        assert sorted(await values_of(store, "log")) == sorted(b"%d" % n for n in good)

    async def test_concurrent_increments_are_never_lost(self, store: StateStore) -> None:
        await store.commit([Put("c", "k", b"0")])

        async def increment() -> None:
            while True:
                document = await store.get("c", "k")
                assert document is not None
                with suppress(StateConflict):
                    await store.commit([Put("c", "k", b"%d" % (int(document.value) + 1), document.version)])
                    return

        await asyncio.gather(*(increment() for _ in range(SOME)))
        document = await store.get("c", "k")
        assert document is not None
        assert document.value == b"%d" % SOME

    async def test_a_cancelled_commit_is_done_or_not_done(self, store: StateStore) -> None:
        async def commit(number: int) -> None:
            await store.commit([Put("c", f"{number:02}", b"1"), Append("log", (b"%02d" % number,))])

        tasks = [asyncio.ensure_future(commit(number)) for number in range(SOME)]
        for number, task in enumerate(tasks):
            if number % FEW:
                await asyncio.wait([task], timeout=0)
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await store.commit([Put("last", "k", b"1")])
        done = [f"{number:02}" for number, result in enumerate(results) if result is None]
        stored = [document.key for document in await store.scan("c")]
        assert set(done) <= set(stored)
        assert sorted(value.decode() for value in await values_of(store, "log")) == stored

    async def test_a_committed_change_is_seen_by_every_later_read(self, store: StateStore) -> None:
        async def write(key: str) -> None:
            for number in range(SOME):
                await store.commit([Put("c", key, b"%d" % number), Append(key, (b"%d" % number,))], durable=False)
                document = await store.get("c", key)
                assert document is not None
                assert document.value == b"%d" % number
                assert await store.head(key) == Head(number + 1)

        async def read(key: str) -> None:
            last = -1
            for _ in range(SOME):
                document = await store.get("c", key)
                assert int(document.value if document else b"-1") >= last
                last = int(document.value) if document else -1
                page = await store.read_log(key, after=max(last, 0))
                assert last < 0 or page

        await asyncio.gather(*(work(key) for key in ("a", "b", "d") for work in (write, read, read)))

    # Scans

    async def test_ten_thousand_documents_are_scanned_in_pages(self, store: StateStore) -> None:
        keys = [f"{number:06}" for number in range(DOCUMENTS)]
        commits = [keys[start : start + PAGES_OF] for start in range(0, DOCUMENTS, PAGES_OF)]
        await asyncio.gather(
            *(store.commit([Put("c", key, key.encode()) for key in part]) for part in reversed(commits))
        )
        await store.commit([Put("b", "x", b"1"), Put("d", "x", b"1")])
        documents = await all_of(store, "c")
        assert [document.key for document in documents] == keys
        assert [document.value.decode() for document in documents] == keys

    async def test_keys_are_scanned_in_the_order_of_their_bytes(self, store: StateStore) -> None:
        await store.commit([Put("c", key, b"1") for key in reversed(SORTED_KEYS)])
        assert [document.key for document in await store.scan("c")] == list(SORTED_KEYS)
        for number, key in enumerate(SORTED_KEYS):
            assert [document.key for document in await store.scan("c", key)] == list(SORTED_KEYS[number + 1 :])

    async def test_a_page_is_as_long_as_asked_for(self, store: StateStore) -> None:
        await store.commit([*(Put("c", f"{number:03}", b"1") for number in range(SOME)), Append("log", (b"1",) * SOME)])
        for limit, length in ((0, 0), (-1, 0), (1, 1), (SOME - 1, SOME - 1), (SOME, SOME), (BEYOND_EVERY_LOG, SOME)):
            assert len(await store.scan("c", limit=limit)) == length
            assert len(await store.read_log("log", limit=limit)) == length
        assert [document.key for document in await store.scan("c", "0105", 2)] == ["011", "012"]

    # Logs

    async def test_a_log_counts_from_one_without_gaps(self, store: StateStore) -> None:
        first = await store.commit([Append("log", (b"a", b"b")), Append("other", (b"x",))])
        second = await store.commit([Append("log", (b"c",)), Append("log", ()), Append("log", (b"d",))])
        assert first.heads == {"log": Head(2), "other": Head(1)}
        assert second.heads == {"log": Head(4)}
        assert await store.read_log("log") == [Entry(n, value) for n, value in enumerate((b"a", b"b", b"c", b"d"), 1)]
        assert await store.read_log("log", after=1, limit=2) == [Entry(2, b"b"), Entry(3, b"c")]
        assert await store.read_log("log", after=-1, limit=1) == [Entry(1, b"a")]

    async def test_a_log_that_is_not_there_is_empty(self, store: StateStore) -> None:
        assert await store.head("log") == Head(0)
        assert await store.read_log("log") == []
        assert (await store.commit([Append("log", ())])).heads == {"log": Head(0)}
        assert await store.read_log("log", after=BEYOND_EVERY_LOG) == []

    async def test_the_order_of_a_log_is_the_order_of_commit(self, store: StateStore) -> None:
        order: list[tuple[int, int, bytes]] = []

        async def append(writer: int) -> None:
            for number in range(FEW):
                value = b"%d.%d" % (writer, number)
                committed = await store.commit([Append("log", (value,)), Put("c", str(writer), value)])
                order.append((committed.version, committed.heads["log"].seq, value))

        await asyncio.gather(*(append(writer) for writer in range(SOME)))
        order.sort()
        assert [seq for _, seq, _ in order] == list(range(1, SOME * FEW + 1))
        assert await values_of(store, "log") == [value for _, _, value in order]

    async def test_an_ended_log_refuses_appends_and_all_that_comes_with_them(self, store: StateStore) -> None:
        ended = await store.commit([Append("log", (b"1",)), Append("log", (b"2",), end=True)])
        assert ended.heads == {"log": Head(2, ended=True)}
        for late in (
            Append("log", (b"3",)),
            Append("log", (b"3",), end=True),
            Append("log", (), end=True),
            Append("log", ()),
        ):
            with pytest.raises(LogEnded):
                await store.commit([Put("c", "k", b"1"), late, Append("other", (b"1",))])
        assert await store.head("log") == Head(2, ended=True)
        assert await values_of(store, "log") == [b"1", b"2"]
        assert await store.get("c", "k") is None
        assert await store.head("other") == Head(0)

    async def test_an_end_needs_no_last_value(self, store: StateStore) -> None:
        await store.commit([Append("log", (b"1",))])
        committed = await store.commit([Append("log", (), end=True), Append("empty", (), end=True)])
        assert committed.heads == {"log": Head(1, ended=True), "empty": Head(0, ended=True)}
        assert [await store.head(log) for log in ("log", "empty")] == [Head(1, ended=True), Head(0, ended=True)]
        assert await values_of(store, "log") == [b"1"]
        assert await values_of(store, "empty") == []

    async def test_an_append_behind_an_end_in_the_same_commit_is_refused(self, store: StateStore) -> None:
        with pytest.raises(LogEnded):
            await store.commit([Append("log", (b"1",), end=True), Append("log", (b"2",))])
        assert await store.head("log") == Head(0)

    async def test_of_appends_and_an_end_at_once_those_behind_the_end_are_refused(self, store: StateStore) -> None:
        commits = [[Append("log", (b"%d" % number,), end=number == FEW)] for number in range(SOME)]
        outcomes = await asyncio.gather(*(outcome(store.commit(ops)) for ops in commits))
        good = [result for result in outcomes if isinstance(result, Committed)]
        head = await store.head("log")
        assert head == Head(len(good), ended=True)
        assert (await values_of(store, "log"))[-1] == b"%d" % FEW
        assert sum(isinstance(result, LogEnded) for result in outcomes) == SOME - len(good)

    async def test_a_dropped_log_starts_again(self, store: StateStore) -> None:
        await store.commit([Append("log", (b"1", b"2"), end=True), Append("other", (b"x",))])
        assert (await store.commit([Drop("log")])).heads == {"log": Head(0)}
        assert await values_of(store, "log") == []
        assert (await store.commit([Append("log", (b"3",))])).heads == {"log": Head(1)}
        again = await store.commit(
            [Append("log", (b"lost",)), Drop("log"), Append("log", (b"4", b"5")), Drop("never was")]
        )
        assert again.heads["log"] == Head(2)
        assert await values_of(store, "log") == [b"4", b"5"]
        assert await values_of(store, "other") == [b"x"]

    async def test_drops_and_appends_at_once_keep_their_order(self, store: StateStore) -> None:
        await store.commit([Append("log", (b"old",) * FEW)])
        changes: list[Op] = [
            Append("log", (b"1",)),
            Drop("log"),
            Append("log", (b"2",)),
            Append("log", (b"3",), end=True),
        ]
        outcomes = await asyncio.gather(*(store.commit([op]) for op in changes))
        last = max(outcomes, key=lambda committed: committed.version)
        assert await store.head("log") == last.heads["log"]
        assert len(await values_of(store, "log")) == last.heads["log"].seq

    # Watches

    async def test_a_watch_gives_the_present_head_first(self, store: StateStore) -> None:
        async with watching(store, "log") as heads:
            assert await coming(heads) == Head(0)
        await store.commit([Append("log", (b"1", b"2"))])
        async with watching(store, "log") as heads:
            assert await coming(heads) == Head(2)

    async def test_a_watch_wakes_for_its_own_log_and_merges(self, store: StateStore) -> None:
        async with watching(store, "log") as heads:
            await coming(heads)
            waiting = asyncio.ensure_future(coming(heads))
            await store.commit([Append("other", (b"x",)), Put("c", "log", b"1")])
            await store.commit([Append("log", (b"1",))])
            assert await waiting == Head(1)
            for _ in range(FEW):
                await store.commit([Append("log", (b"2",))])
            assert await coming(heads) == Head(1 + FEW)
            waiting = asyncio.ensure_future(coming(heads))
            await store.commit([Append("log", (b"3",))])
            assert await waiting == Head(2 + FEW)

    async def test_a_watch_ends_with_its_log(self, store: StateStore) -> None:
        async with watching(store, "log") as heads:
            await coming(heads)
            await store.commit([Append("log", (b"1",), end=True)])
            async with asyncio.timeout(PATIENCE):
                assert [head async for head in heads] == [Head(1, ended=True)]
                assert [head async for head in store.watch("log")] == [Head(1, ended=True)]

    async def test_a_dropped_log_is_seen_at_zero(self, store: StateStore) -> None:
        await store.commit([Append("log", (b"1",))])
        async with watching(store, "log") as heads:
            assert await coming(heads) == Head(1)
            await store.commit([Drop("log")])
            assert await coming(heads) == Head(0)

    async def test_a_second_watch_sees_what_came_in_between(self, store: StateStore) -> None:
        async with watching(store, "log") as heads:
            await coming(heads)
            await store.commit([Append("log", (b"1",))])
            read = (await coming(heads)).seq
        await store.commit([Append("log", (b"2", b"3"))])
        async with watching(store, "log") as heads:
            assert await coming(heads) == Head(3)
            assert await store.read_log("log", read) == [Entry(2, b"2"), Entry(3, b"3")]

    async def test_a_reader_that_follows_a_watch_misses_nothing(self, store: StateStore) -> None:
        async def follow() -> list[bytes]:
            values: list[bytes] = []
            async with watching(store, "log") as heads:
                async for head in heads:
                    while len(values) < head.seq:
                        values += [entry.value for entry in await store.read_log("log", len(values), FEW)]
            return values

        readers = [asyncio.ensure_future(follow()) for _ in range(FEW)]
        written = [b"%d" % number for number in range(SOME)]
        for value in written:
            await store.commit([Append("log", (value,), end=value == written[-1])], durable=False)
            if len(readers) < 2 * FEW:
                readers.append(asyncio.ensure_future(follow()))
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*readers) == [written] * len(readers)

    async def test_thousands_of_watchers_are_all_woken(self, store: StateStore) -> None:
        async def until_ended(log: str) -> Head:
            async with watching(store, log) as heads:
                return [head async for head in heads][-1]

        waiting = [asyncio.ensure_future(until_ended(f"log {number % 2}")) for number in range(MANY)]
        await store.commit([Append("log 0", (b"1",)), Append("log 1", (b"1",))])
        await store.commit([Append("log 0", (b"2",), end=True), Append("log 1", (), end=True)])
        async with asyncio.timeout(PATIENCE):
            ends = await asyncio.gather(*waiting)
        assert ends == [Head(2, ended=True), Head(1, ended=True)] * (MANY // 2)

    async def test_a_cancelled_watcher_leaves_the_others(self, store: StateStore) -> None:
        async with watching(store, "log") as heads, watching(store, "log") as others:
            await coming(heads)
            await coming(others)
            cancelled = asyncio.ensure_future(coming(heads))
            await asyncio.wait([cancelled], timeout=0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            await store.commit([Append("log", (b"1",))])
            assert await coming(others) == Head(1)

    # Lifetimes

    async def test_a_store_that_is_not_open_is_unavailable(self, make_store: MakeStore) -> None:
        async def refuses(store: StateStore) -> None:
            calls: Sequence[Callable[[], Awaitable[object]]] = (
                lambda: store.get("c", "k"),
                lambda: store.scan("c"),
                lambda: store.read_log("log"),
                lambda: store.head("log"),
                lambda: store.commit([Put("c", "k", b"1")]),
                lambda: anext(store.watch("log")),
            )
            for call in calls:
                with pytest.raises(StoreUnavailable):
                    await call()

        store = make_store()
        await refuses(store)
        async with store:
            await store.commit([Put("c", "k", b"1"), Append("log", (b"1",))])
        await refuses(store)
        await store.aclose()
        with pytest.raises(StoreUnavailable):
            await store.open()

    async def test_closing_wakes_the_watchers(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            heads = store.watch("log")
            await coming(heads)
            waiting = asyncio.ensure_future(coming(heads))
            await asyncio.wait([waiting], timeout=0)
        with pytest.raises(StoreUnavailable):
            await waiting

    async def test_what_was_accepted_is_finished_before_the_close(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            commits = [asyncio.ensure_future(outcome(store.commit([Put("c", str(n), b"1")]))) for n in range(SOME)]
            await asyncio.wait(commits, timeout=0)
        outcomes = await asyncio.gather(*commits)
        accepted = [str(n) for n, result in enumerate(outcomes) if isinstance(result, Committed)]
        assert len(accepted) == SOME
        if self.persistent:
            async with make_store() as store:
                assert [document.key for document in await store.scan("c")] == sorted(accepted)

    async def test_a_store_opened_again_has_what_its_kind_promises(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            await store.commit([Append("log", (b"1", b"2")), Append("ended", (b"1",), end=True)])
            await store.commit([Append("empty", (), end=True), Put("c", "deleted", b"1")])
            await store.commit([Put("c", "k", b"1")], durable=False)
            last = await store.commit([Delete("c", "deleted")])
        async with make_store() as store:
            heads = [await store.head(log) for log in ("log", "ended", "empty")]
            if not self.persistent:
                assert heads == [Head(0)] * 3
                assert await store.scan("c") == []
                return
            assert heads == [Head(2), Head(1, ended=True), Head(0, ended=True)]
            assert [document.key for document in await store.scan("c")] == ["k"]
            assert (await store.commit([Append("log", (b"3",)), Put("c", "k", b"2")])).version > last.version
            assert await values_of(store, "log") == [b"1", b"2", b"3"]
            with pytest.raises(LogEnded):
                await store.commit([Append("empty", (b"1",))])
