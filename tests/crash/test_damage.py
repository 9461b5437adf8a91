"""Bits flipped in, and parts cut off, of what a stopped control plane has stored: nothing wrong is ever delivered.

``DAMAGES=1000`` tries so many of each kind; ``FIRST_DAMAGE`` is the seed that they begin with.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.damaged import Outcomes, Stopped, start_on

SEEDS = range(start := int(os.environ.get("FIRST_DAMAGE", "0")), start + int(os.environ.get("DAMAGES", "12")))
PAGE = 4096

pytestmark = pytest.mark.timeout(60 + len(SEEDS))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is as long as it needs to be: to write it out takes longer than all else."""
    monkeypatch.setattr("arriero.state_stores.database.LOG", 0)


def damage_row(path: Path, chance: random.Random) -> str:
    """Flip a bit in a stored value, or cut it short."""
    with closing(sqlite3.connect(path)) as connection:
        places = [("documents", "collection", "key"), ("entries", "log", "seq")]
        table, first, second = chance.choice(places)
        rows = connection.execute(f"SELECT {first}, {second}, value FROM {table} WHERE value > x''").fetchall()  # noqa: S608  # names of ours
        one, two, value = chance.choice(rows)
        spoiled = flipped(value, chance) if chance.random() < 0.7 else value[: chance.randrange(len(value))]
        sql = f"UPDATE {table} SET value = ? WHERE {first} = ? AND {second} = ?"  # noqa: S608  # as above
        connection.execute(sql, (spoiled, one, two))
        connection.commit()
    return f"{one} {two}"


def damage_bit(path: Path, chance: random.Random) -> str:
    content = path.read_bytes()
    path.write_bytes(flipped(content, chance))
    return "a bit of the file"


def damage_page(path: Path, chance: random.Random) -> str:
    page = chance.randrange(path.stat().st_size // PAGE)
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(chance.randbytes(PAGE))
    return f"page {page}"


def damage_length(path: Path, chance: random.Random) -> str:
    length = chance.randrange(PAGE, path.stat().st_size)
    length -= length % PAGE if chance.random() < 0.5 else 0
    os.truncate(path, length)
    return f"cut at {length}"


def flipped(value: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(value))
    return value[:place] + bytes([value[place] ^ 1 << chance.randrange(8)]) + value[place + 1 :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stopped")


async def tried(stopped: Stopped, folder: Path, seed: int, damage: Callable[[Path, random.Random], str]) -> Outcomes:
    path = stopped.copy(folder / f"{damage.__name__}-{seed}")
    told = damage(path, random.Random(seed))
    outcomes = await start_on(path, stopped)
    assert not outcomes.faults, f"seed {seed} of {damage.__name__}, {told}: {outcomes.faults}"
    if outcomes.refusal:
        assert str(path) in outcomes.refusal, f"seed {seed} of {damage.__name__}, {told}"
    return outcomes


async def test_whatever_row_is_damaged_all_other_runs_end_as_they_should(folder: Path) -> None:
    stopped = await Stopped(folder / "rows").make()
    for seed in SEEDS:
        outcomes = await tried(stopped, folder, seed, damage_row)
        assert outcomes.counts["damaged"] <= 1, f"seed {seed}"
        assert outcomes.counts["refused"] == 0, f"seed {seed}: {outcomes.refusal}"


async def test_whatever_bit_of_the_file_flips_no_run_ends_wrong_or_never(folder: Path) -> None:
    stopped = await Stopped(folder / "bits").make()
    for seed in SEEDS:
        outcomes = await tried(stopped, folder, seed, damage_bit)
        assert outcomes.counts["damaged"] <= 3, f"seed {seed}: {outcomes.counts}"


async def test_whatever_page_is_spoiled_no_run_ends_wrong_or_never(folder: Path) -> None:
    stopped = await Stopped(folder / "pages").make()
    for seed in SEEDS:
        await tried(stopped, folder, seed, damage_page)


async def test_a_file_that_was_cut_off_is_refused(folder: Path) -> None:
    stopped = await Stopped(folder / "lengths").make()
    for seed in SEEDS:
        outcomes = await tried(stopped, folder, seed, damage_length)
        assert outcomes.counts["refused"] == 1, f"seed {seed}: {outcomes.counts}"
        assert "Restore it from a backup" in outcomes.refusal
