"""Files that a disk has damaged: of rows, of pages, of the log."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from arriero.state_stores import SqliteStore
from arriero.state_stores.base import Append, Head, Put
from arriero.state_stores.database import RESERVED
from arriero.types.errors import StoreDamaged
from tests.unit.state_stores.test_sqlite import content_of, fill, mode_of

#: Bytes of a page and its head in the log.
FRAME = 24 + 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is too large to be read as a whole when it is opened."""
    monkeypatch.setattr("arriero.state_stores.database.VERIFIED", 0)


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


DAMAGE = {
    "a bit of a value": "UPDATE documents SET value = CAST(x'32' AS BLOB) WHERE key = 'b'",
    "a version": "UPDATE documents SET version = version + 4 WHERE key = 'b'",
    "a key": "UPDATE documents SET key = 'bb' WHERE key = 'b'",
}


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_a_document_that_is_not_as_it_was_written_is_damaged(path: Path, damage: str) -> None:
    await fill(path, [Put("c", key, b"1") for key in "abc"])
    execute(path, damage)
    async with SqliteStore(path) as store:
        assert [document.damaged for document in await store.scan("c")] == [False, True, False]
        [_, damaged, _] = await store.scan("c", backwards=True)
        with pytest.raises(StoreDamaged, match="its checksum differs"):
            await store.get("c", damaged.key)
        pages = [
            document.key for page in [await store.scan("c", "a", 1), await store.scan("c", "a", 2)] for document in page
        ]
        assert pages == [damaged.key, damaged.key, "c"]


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entries SET value = CAST(x'39' AS BLOB) WHERE seq = 2",
        "UPDATE entries SET seq = 6 WHERE seq = 3",
        "UPDATE entries SET seq = 6 WHERE seq = 4",
        "DELETE FROM entries WHERE seq = 3",
        "UPDATE entries SET value = NULL WHERE seq = 3",
        "UPDATE entries SET crc = 7 WHERE seq = 4",
    ],
)
async def test_a_log_with_an_entry_changed_or_missing_is_damaged(path: Path, damage: str) -> None:
    await fill(path, [Append("log", (b"1", b"2", b"3"), end=True), Append("other", (b"1",))])
    execute(path, damage)
    async with SqliteStore(path) as store:
        with pytest.raises(StoreDamaged):
            await store.read_log("log")
        assert [entry.value for entry in await store.read_log("log", limit=1)] == [b"1"]
        assert await store.read_log("other")


async def test_a_file_of_before_the_checksums_is_taken_over(path: Path) -> None:
    await fill(path, [Put("c", "old", b"1"), Append("log", (b"1",)), Append("ended", (b"1",), end=True)])
    execute(
        path, "ALTER TABLE documents DROP COLUMN crc", "ALTER TABLE entries DROP COLUMN crc", "PRAGMA user_version = 1"
    )
    for _ in range(2):
        async with SqliteStore(path) as store:
            await store.commit([Put("c", "new", b"2"), Append("log", (b"2",))])
            assert [document.value for document in await store.scan("c")] == [b"2", b"1"]
            assert len(await store.read_log("log")) == (await store.head("log")).seq
            assert await store.head("ended") == Head(1, ended=True)
            assert store.damages == 0
    execute(path, "UPDATE documents SET value = CAST(x'33' AS BLOB)")
    async with SqliteStore(path) as store:
        assert [document.damaged for document in await store.scan("c")] == [True, False]


async def test_a_damaged_file_is_written_anew_and_kept(path: Path) -> None:
    await fill(path, [Put("c", key, b"1") for key in "abc"], [Append("log", (b"1", b"2"))], [Put("z", "z", b"1")])
    execute(
        path, "UPDATE documents SET value = CAST(x'32' AS BLOB) WHERE key = 'b'", "DELETE FROM entries WHERE seq = 1"
    )
    async with SqliteStore(path) as store:
        assert store.damages == 1
        version = (await store.commit([Put("c", "d", b"1")])).version
        assert version > 2 * RESERVED
        assert [document.damaged for document in await store.scan("c")] == [False, True, False, False]
        with pytest.raises(StoreDamaged, match="was found damaged, and is lost"):
            await store.get("c", "b")
        with pytest.raises(StoreDamaged, match="missing"):
            await store.read_log("log")
    assert mode_of(path) == 0o600
    kept = path.with_name("state.db.damaged-1")
    assert kept.exists()
    async with SqliteStore(path) as store:
        assert store.damages == 0  # nothing that was not known
        await store.commit([Put("c", "b", b"mended")])
        assert await store.get("c", "b")
    assert not path.with_name("state.db.damaged-2").exists()


@pytest.mark.parametrize("page", range(4, 30, 5))
async def test_of_a_file_with_a_damaged_page_all_else_is_kept(path: Path, page: int) -> None:
    keys = [f"{number:04}" for number in range(1000)]
    await fill(path, [Put("c", key, b"x" * 100) for key in keys], [Append("log", (b"1",) * 100)])
    with path.open("r+b") as file:
        file.seek(4096 * page)
        file.write(b"\xff" * 4096)
    async with SqliteStore(path) as store:
        assert store.damages
        found = await store.scan("c", limit=1000)
        assert len(found) > 900
        assert all(document.value == b"x" * 100 for document in found)
        await store.commit([Put("c", key, b"y") for key in keys])
        assert len(await store.scan("c", limit=1000)) == 1000


# Damage of the log


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """A file whose owner was killed, with eight commits in its log."""
    before, path = tmp_path / "before" / "state.db", tmp_path / "state.db"
    async with SqliteStore(before) as store:
        for number in range(8):
            await store.commit([Put("c", str(number), b"x" * 3000)])
        for suffix in ("", "-wal", ".lock"):
            shutil.copy(f"{before}{suffix}", f"{path}{suffix}")
    return path


def spoil(path: Path, place: int) -> None:
    """Flip a bit of the log."""
    with path.with_name(f"{path.name}-wal").open("r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 8]))


@pytest.mark.parametrize("place", [5, 17, 25, 32 + 2, 32 + 10, 32 + 20, 32 + 500, 32 + FRAME * 5 + 100])
async def test_a_damaged_log_is_refused_until_it_is_given_up(
    killed: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(killed, place)
    log = content_of(killed.with_name("state.db-wal"))
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=r"state\.db-wal is damaged.*backup.*remove .*state\.db\.lock"):
            await SqliteStore(killed).open()
        assert content_of(killed.with_name("state.db-wal")) == log
    killed.with_name("state.db.lock").unlink()
    for _ in range(2):
        async with SqliteStore(killed) as store:
            await store.commit([Put("c", "0", b"1")])
            shutil.copy(killed.with_name("state.db.lock"), killed.with_name("lock"))
        shutil.copy(killed.with_name("lock"), killed.with_name("state.db.lock"))
    assert caplog.text.count("-wal is damaged") == 1


@pytest.mark.parametrize("left", [0, 10, 24, 500])
async def test_a_log_that_was_cut_off_by_a_kill_is_read_as_far_as_it_goes(killed: Path, left: int) -> None:
    log = killed.with_name("state.db-wal")
    content = content_of(log)
    end = 32
    while content[end + FRAME + 8 : end + FRAME + 16] == content[16:24]:
        end += FRAME
    log.write_bytes(content[: end + left] + bytes(len(content) - end - left))
    async with SqliteStore(killed) as store:
        assert len(await store.scan("c")) == 7
