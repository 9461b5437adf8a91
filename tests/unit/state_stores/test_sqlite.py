import asyncio
import os
import re
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from arriero.state_stores import SqliteStore, statements
from arriero.state_stores.base import Append, Committed, Delete, Drop, Head, Op, Put
from arriero.state_stores.database import CHECKPOINT, RESERVED, Database
from arriero.state_stores.plans import plan_of
from arriero.state_stores.stats import StoreStats
from arriero.types.errors import AlreadyInUse, ConfigurationError, StateConflict, StoreDamaged, StoreUnavailable

MANY = 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "folder" / "state.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(path) as store:
        yield store


async def fill(path: Path, *commits: list[Op]) -> None:
    async with SqliteStore(path) as store:
        await asyncio.gather(*map(store.commit, commits))


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def run_program(program: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)


# One process, one file


async def test_the_folder_and_the_files_are_the_owners_alone(store: SqliteStore, path: Path) -> None:
    await store.commit([Put("c", "k", b"1")])
    assert mode_of(path.parent) == 0o700
    files = {file.name: mode_of(file) for file in path.parent.iterdir()}
    assert files.keys() >= {"state.db", "state.db-wal", "state.db.lock"}
    assert set(files.values()) == {0o600}


async def test_a_second_owner_is_told_who_owns_it(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(AlreadyInUse, match=re.escape(str(path))) as refusal:
            await SqliteStore(name).open()
        assert f"process {os.getpid()};" in refusal.value.message
    await store.commit([Put("c", "k", b"1")])


COMMIT_AND_DIE = """
import asyncio, os, sys
from arriero.state_stores import SqliteStore
from arriero.state_stores.base import Append, Put

async def main():
    store = await SqliteStore(sys.argv[1]).open()
    await store.commit([Put("c", "k", b"1"), Append("log", (b"1",))])
    last = await store.commit([Put("c", "k", b"2"), Append("log", (b"2",))], durable=False)
    print(last.version, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_a_killed_owner_leaves_its_commits_and_no_lock(path: Path) -> None:
    died = run_program(COMMIT_AND_DIE, path)
    assert died.returncode == -9
    async with SqliteStore(path) as store:
        document = await store.get("c", "k")
        assert document is not None
        assert document.value == b"2"
        assert document.version == int(died.stdout)
        assert await store.head("log") == Head(2)
        assert (await store.commit([Put("c", "k", b"3", document.version)])).version > int(died.stdout)


async def test_another_process_is_refused(store: SqliteStore, path: Path) -> None:
    refused = await asyncio.to_thread(run_program, COMMIT_AND_DIE, path)
    assert f"AlreadyInUse: {path} is in use by process {os.getpid()}" in refused.stderr


async def test_an_open_that_is_cancelled_lets_the_file_go(path: Path) -> None:
    opening = asyncio.ensure_future(SqliteStore(path).open())
    await asyncio.wait([opening], timeout=0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    async with SqliteStore(path) as store:
        await store.commit([Put("c", "k", b"1")])


async def test_the_main_file_has_everything_after_a_close(path: Path) -> None:
    await fill(path, [Put("c", "k", b"1")])
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.db", "state.db.lock"]


async def test_a_store_can_be_opened_twice_and_entered(path: Path) -> None:
    store = await SqliteStore(path).open()
    async with store:
        await store.open()
        await store.commit([Put("c", "k", b"1")])
    await store.aclose()


async def test_a_store_that_could_not_be_opened_may_be_tried_again(store: SqliteStore, path: Path) -> None:
    second = SqliteStore(path)
    with pytest.raises(AlreadyInUse):
        await second.open()
    await store.aclose()
    async with second:
        await second.commit([Put("c", "k", b"1")])


# Groups


async def test_commits_that_wait_together_are_written_together(store: SqliteStore) -> None:
    await asyncio.gather(*(store.commit([Put("c", f"{number}", b"1")]) for number in range(MANY)))
    assert store.stats.commits == MANY
    assert store.stats.groups == store.stats.durable_groups <= MANY / 4


async def test_a_group_of_any_size_is_written_whole(store: SqliteStore) -> None:
    for size in (1, 2, 3, statements.MOST_ROWS - 1, statements.MOST_ROWS, statements.MOST_ROWS + 1, 1000):
        keys = [f"{number:04}" for number in range(size)]
        await store.commit([op for key in keys for op in (Put("c", key, b"1", 0), Append(key, (b"1", b"2"), end=True))])
        assert [document.key for document in await store.scan("c", limit=2000)] == keys
        assert [await store.head(key) for key in keys] == [Head(2, ended=True)] * size
        await store.commit([op for key in keys for op in (Delete("c", key), Drop(key))])
        assert await store.scan("c") == []
        assert [await store.read_log(key) for key in keys] == [[]] * size


async def test_conflicts_are_counted_and_write_nothing(store: SqliteStore) -> None:
    await store.commit([Put("c", "k", b"1")])
    with pytest.raises(StateConflict):
        await store.commit([Put("c", "k", b"2", expect=0)])
    assert store.stats == StoreStats(commits=1, conflicts=1, groups=1, durable_groups=1)


async def test_only_durable_commits_wait_for_the_disk(store: SqliteStore) -> None:
    for number in range(MANY):
        await store.commit([Put("c", "k", b"%d" % number)], durable=False)
    assert store.stats.durable_groups == 0
    await store.commit([Put("c", "k", b"last")])
    assert store.stats.durable_groups == 1


# A small commit that waits for no disk


def at_once(store: SqliteStore, *ops: Op, durable: bool = False) -> Committed | None:
    """What a commit gives without any turn of the loop; one that waits for the thread is closed again."""
    commit = store.commit(list(ops), durable=durable)
    try:
        commit.send(None)
    except StopIteration as done:
        outcome: Committed = done.value
        return outcome
    commit.close()
    return None


async def quiet(store: SqliteStore) -> None:
    """Return when nothing is under way and the last commits came one by one."""
    for _ in range(2):
        await store.commit([])


async def test_a_small_commit_is_written_at_once_unless_it_is_to_be_durable(store: SqliteStore, path: Path) -> None:
    committed = at_once(store, Put("c", "k", b"1"), Append("log", (b"1", b"2")))
    assert committed is not None
    assert committed.heads == {"log": Head(2)}
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT value FROM documents").fetchall() == [(b"1",)]
    assert store.stats == StoreStats(commits=1, groups=1)
    await asyncio.sleep(0)
    assert at_once(store, Put("c", "k", b"2"), durable=True) is None
    await quiet(store)
    with pytest.raises(StateConflict):
        at_once(store, Put("c", "k", b"3", expect=committed.version))


@pytest.mark.shows("down.store")
@pytest.mark.parametrize("which", ["", "-wal"])
async def test_a_file_that_is_taken_away_takes_no_commit_until_it_is_back(
    store: SqliteStore, path: Path, which: str
) -> None:
    await store.commit([Put("c", "before", b"1")])
    file, elsewhere = path.with_name(f"{path.name}{which}"), path.with_name("elsewhere")
    file.rename(elsewhere)
    with pytest.raises(StoreUnavailable, match="was removed or replaced while it was in use"):
        await store.commit([Put("c", "meanwhile", b"2")])
    elsewhere.rename(file)
    await store.commit([Put("c", "after", b"3")])
    assert [document.key for document in await store.scan("c")] == ["after", "before"]


async def test_what_is_large_or_comes_together_is_left_to_the_thread(store: SqliteStore) -> None:
    for ops in ([Put("c", "k", bytes(100_000))], [Put("c", f"{number}", b"1") for number in range(100)], [Drop("log")]):
        assert at_once(store, *ops) is None
        await quiet(store)
    before = store.stats.groups
    await asyncio.gather(*(store.commit([Put("c", f"{number}", b"1")], durable=False) for number in range(MANY)))
    assert store.stats.groups - before <= 4


async def test_no_commit_is_written_before_those_that_were_asked_for_earlier(store: SqliteStore) -> None:
    for number in range(MANY):
        earlier = asyncio.ensure_future(store.commit([Append("log", (b"%d" % number,))]))
        await asyncio.sleep(0)
        await store.commit([Append("log", (b"later",))], durable=False)
        await earlier
    values = [entry.value for entry in await store.read_log("log", limit=2 * MANY)]
    assert values == [value for number in range(MANY) for value in (b"%d" % number, b"later")]


async def test_a_lock_that_another_program_holds_does_not_hold_the_loop(store: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(store.commit([Put("c", "k", b"1")], durable=False))
        await asyncio.wait([waiting], timeout=0)
        assert not waiting.done()
        connection.execute("ROLLBACK")
        assert isinstance(await waiting, Committed)


class OpenDatabase(Database):
    """A database that tells what SQLite was told."""

    def synchronous(self) -> int:
        return self._number("PRAGMA synchronous")

    def patience(self) -> tuple[int, int]:
        return self._number("PRAGMA busy_timeout"), self._number("PRAGMA wal_autocheckpoint")

    def synced(self) -> int:
        return self._number("SELECT number FROM meta WHERE name = 'synced'")


@pytest.fixture
def database(path: Path) -> Iterator[OpenDatabase]:
    database = OpenDatabase(path)
    database.open()
    yield database
    database.close()


def test_the_disk_is_waited_for_as_asked_each_time(database: OpenDatabase) -> None:
    modes = []
    for durable in (True, False, False, True, False, True):
        database.commit([plan_of([Put("c", "k", b"1")])], durable=durable)
        modes.append(database.synchronous())
    assert modes == [2, 1, 1, 2, 1, 2]


def test_only_the_thread_waits_for_other_programs_and_for_the_main_file(database: OpenDatabase) -> None:
    found = []
    for at_once in (False, True, True, False):
        database.commit([plan_of([Put("c", "k", b"1")])], durable=False, at_once=at_once)
        found.append(database.patience())
    assert found == [(5000, CHECKPOINT), (0, 0), (0, 0), (5000, CHECKPOINT)]


def test_the_log_has_its_length_before_the_first_commit_and_is_gone_when_closed(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    database = OpenDatabase(path)
    database.open()
    assert log.stat().st_size >= CHECKPOINT * 4096
    database.commit([plan_of([Put("c", "k", b"1")])], durable=True)
    kept, again = path.read_bytes(), log.read_bytes()
    database.close()
    assert not log.exists()
    path.write_bytes(kept)
    log.write_bytes(again)  # as a process that is killed leaves them
    database = OpenDatabase(path)
    database.open()
    assert database.get("c", "k")[0] == b"1"
    database.close()


def test_a_durable_commit_of_nothing_still_brings_those_before_it_to_the_disk(database: OpenDatabase) -> None:
    database.commit([plan_of([])], durable=True)
    assert database.synced() == 0
    _, [committed] = database.commit([plan_of([Put("c", "k", b"1")])], durable=False)
    database.commit([plan_of([])], durable=False)
    assert database.synced() == 0
    assert isinstance(committed, Committed)
    database.commit([plan_of([])], durable=True)
    assert database.synced() > committed.version
    written = database.synced()
    database.commit([plan_of([])], durable=True)
    assert database.synced() == written


def test_versions_go_on_when_those_reserved_are_used_up(path: Path) -> None:
    class Hasty(Database):
        def skip(self) -> None:
            self._version += RESERVED - 2

    versions = []
    for _ in range(3):
        database = Hasty(path)
        database.open()
        for _ in range(5):
            _, [committed] = database.commit([plan_of([])], durable=True)
            assert isinstance(committed, Committed)
            versions.append(committed.version)
            database.skip()
        database.close()
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("size", [1, 2, statements.MOST_ROWS])
def test_no_statement_walks_through_a_table(size: int) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for table in statements.TABLES:
            connection.execute(table)
        texts = [statements.standing(size), statements.put(size), statements.append(size), statements.delete(size)]
        texts += [statements.drop(size), statements.GET, statements.SCAN, statements.READ_LOG, statements.HEAD]
        for text in texts:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", [None] * text.count("?")).fetchall()
            walks = [step[3] for step in plan if re.search(r"SCAN (documents|entries)|USE TEMP B-TREE", step[3])]
            assert walks == []


# The cache


async def test_what_was_written_or_read_is_read_from_memory(path: Path) -> None:
    await fill(path, [Put("c", "k", b"1"), Append("log", (b"1",))])
    async with SqliteStore(path) as store:
        for _ in range(3):
            assert await store.get("c", "k")
            assert await store.get("c", "none") is None
            assert await store.head("log") == Head(1)
        assert store.stats.reads == 3
        await store.commit([Put("c", "none", b"2"), Delete("c", "k"), Append("log", (b"2",))])
        document = await store.get("c", "none")
        assert document is not None
        assert document.value == b"2"
        assert await store.get("c", "k") is None
        assert await store.head("log") == Head(2)
        assert store.stats.reads == 3


async def test_a_commit_that_names_a_log_tells_its_head(path: Path) -> None:
    await fill(path, [Append("log", (b"1",)), Append("ended", (b"1",), end=True)])
    async with SqliteStore(path) as store:
        await store.commit([Append("log", ()), Append("new", ())])
        assert [await store.head(log) for log in ("log", "new")] == [Head(1), Head(0)]
        assert store.stats.reads == 0
        await asyncio.gather(store.commit([Append("log", ())]), store.commit([Append("log", (b"2",))]))
        assert await store.head("log") == Head(2)


async def test_a_read_that_is_overtaken_by_a_commit_is_not_kept_over_it(path: Path) -> None:
    await fill(path, [Put("c", str(number), b"old") for number in range(MANY)], [Append("log", (b"1",))])
    async with SqliteStore(path) as store:
        reads = [asyncio.ensure_future(store.get("c", str(number))) for number in range(MANY)]
        heads = asyncio.ensure_future(store.head("log"))
        commits = [
            asyncio.ensure_future(store.commit([Put("c", str(number), b"new"), Append("log", (b"2",))]))
            for number in range(MANY)
        ]
        more = [asyncio.ensure_future(store.get("c", str(number))) for number in range(MANY)]
        await asyncio.gather(*reads, heads, *commits, *more)
        for number in range(MANY):
            document = await store.get("c", str(number))
            assert document is not None
            assert document.value == b"new"
        assert await store.head("log") == Head(1 + MANY)


# Damage and trouble


@pytest.mark.parametrize("content", [b"This is no database. " * 1000, b"SQLite format 3\0" + b"\xff" * 8192])
async def test_a_file_of_garbage_is_damaged(path: Path, content: bytes) -> None:
    replace(path, content)
    for _ in range(2):  # and the first try has let it go
        with pytest.raises(StoreDamaged, match=re.escape(str(path))):
            await SqliteStore(path).open()
    assert content_of(path) == content


async def test_a_truncated_file_is_damaged(path: Path) -> None:
    await fill(path, [Put("c", str(number), b"x" * 400) for number in range(1000)])
    content = content_of(path)
    replace(path, content[: len(content) // 2])
    with pytest.raises(StoreDamaged, match=re.escape(str(path))):
        await SqliteStore(path).open()


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is too large to be read as a whole when it is opened."""
    monkeypatch.setattr("arriero.state_stores.database.VERIFIED", 0)


@pytest.mark.usefixtures("unverified")
async def test_a_damaged_page_spoils_only_what_lies_on_it(path: Path) -> None:
    keys = [f"{number:04}" for number in range(1000)]
    await fill(path, [Put("c", key, b"x" * 400) for key in keys], [Put("z", "k", b"1"), Append("log", (b"1",))])
    with path.open("r+b") as file:
        file.seek(4096 * 40)
        file.write(b"\xff" * 4096)
    async with SqliteStore(path) as store:
        answers = await asyncio.gather(*(store.get("c", key) for key in keys), return_exceptions=True)
        spoiled = [key for key, answer in zip(keys, answers, strict=True) if isinstance(answer, StoreDamaged)]
        assert 0 < len(spoiled) < 50
        assert all(answer.value == b"x" * 400 for answer in answers if not isinstance(answer, StoreDamaged))
        outcomes = await asyncio.gather(
            store.commit([Put("z", "k", b"2")]),
            store.commit([Put("c", spoiled[0], b"2", expect=1)]),
            store.commit([Append("log", (b"2",))]),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [Committed, StoreDamaged, Committed]
        with pytest.raises(StoreDamaged):
            await store.scan("c", limit=1000)
        with pytest.raises(StoreDamaged):
            await store.commit([Drop("log"), Delete("z", "k"), Put("c", spoiled[0], b"2")])
        assert [entry.value for entry in await store.read_log("log")] == [b"1", b"2"]
        assert [document.value for document in await store.scan("z")] == [b"2"]


@pytest.mark.usefixtures("unverified")
async def test_a_row_that_something_else_has_written_is_damaged(path: Path) -> None:
    await fill(path, [Put("c", key, b"1") for key in "abc"], [Append("log", (b"1",)), Append("good", (b"1",))])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE documents SET value = 'text' WHERE key = 'a'")
        connection.execute("UPDATE documents SET value = CAST(x'ff' AS TEXT) WHERE key = 'b'")
        connection.execute("UPDATE entries SET value = 7 WHERE log = 'log'")
        connection.commit()
    async with SqliteStore(path) as store:
        for work in (store.get("c", "a"), store.get("c", "b"), store.read_log("log")):
            with pytest.raises(StoreDamaged):
                await work
        assert [(document.key, document.damaged) for document in await store.scan("c")] == [
            ("a", True),
            ("b", True),
            ("c", False),
        ]
        assert store.damages == 5
        assert await store.get("c", "c")
        assert await store.read_log("good")
        await store.commit([Put("c", "a", b"mended"), Put("c", "b", b"mended")])
        assert len(await store.scan("c")) == 3


async def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    replace(path, b"")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = content_of(path)
    with pytest.raises(ConfigurationError, match="another program"):
        await SqliteStore(path).open()
    assert content_of(path) == before


async def test_a_newer_schema_is_refused(path: Path) -> None:
    await fill(path, [Put("c", "k", b"1")])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(ConfigurationError, match=r"newer version of Arriero \(schema 3, this one knows 2\)"):
        await SqliteStore(path).open()


async def test_a_path_that_cannot_be_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "state.db"):
        with pytest.raises(StoreUnavailable, match=re.escape(str(path))):
            await SqliteStore(path).open()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_the_disk_refuses_is_not_done_and_what_comes_later_is(store: SqliteStore, path: Path) -> None:
    await store.commit([Put("c", "k", b"before"), Append("log", (b"1",))])
    commits: list[list[Op]] = [[Put("c", str(number), b"x" * 10_000), Append("log", (b"2",))] for number in range(8)]
    with files_no_larger_than(10_000):
        outcomes = await asyncio.gather(
            store.commit([Put("c", "k", b"after")]), *map(store.commit, commits), return_exceptions=True
        )
    refused = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
    assert len(refused) >= len(commits)
    assert all(str(path) in error.message for error in refused)
    assert len({id(error) for error in refused}) == len(refused)
    assert await store.head("log") == Head(1)
    assert [document.key for document in await store.scan("c")] == ["k"]
    await asyncio.gather(*map(store.commit, commits))
    assert await store.head("log") == Head(1 + len(commits))


async def test_a_lock_that_another_program_holds_is_waited_for(store: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(store.commit([Put("c", "k", b"1")]))
        await asyncio.wait([waiting], timeout=0)
        connection.execute("ROLLBACK")
        assert isinstance(await waiting, Committed)


LEAVE_OPEN = """
import asyncio, sys
from arriero.state_stores import SqliteStore
from arriero.state_stores.base import Put

async def main():
    store = await SqliteStore(sys.argv[1]).open()
    await store.commit([Put("c", "k", b"1")])
    unfinished.append(asyncio.ensure_future(store.commit([Put("c", "k", b"2")])))
    await asyncio.wait(unfinished, timeout=0)

unfinished = []
asyncio.run(main())
"""


def test_a_process_may_end_with_its_store_open(path: Path) -> None:
    ended = run_program(LEAVE_OPEN, path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
