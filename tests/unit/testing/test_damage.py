"""Journals that were damaged on the disk: the run that they belong to fails, and says why; others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from arriero.core import names
from arriero.testing import Harness
from arriero.types.errors import TaskFailed


class Next(Event):
    number: int


class Slow(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Next:
        return Next(number=ev.number)

    @step
    async def end(self, ev: Next) -> StopEvent:
        await asyncio.sleep(60)
        return StopEvent(result=ev.number)


def cut_short(entry: bytes) -> bytes:
    return entry[: len(entry) // 2]


def flipped(entry: bytes) -> bytes:
    place = entry.index(b'"step_result"') + 1
    return entry[:place] + bytes([entry[place] ^ 0x04]) + entry[place + 1 :]


def emptied(entry: bytes) -> bytes:
    return b""


def of_another_kind(entry: bytes) -> bytes:
    return b"[1, 2]"


def no_text(entry: bytes) -> bytes:
    return entry[:20] + b"\xff\xfe" + entry[22:]


@pytest.mark.shows("journal.damage")
@pytest.mark.parametrize("damage", [cut_short, flipped, emptied, of_another_kind, no_text])
async def test_a_run_whose_journal_is_damaged_fails_alone(damage: Callable[[bytes], bytes]) -> None:
    async with Harness() as h:
        worker = await h.serve(Slow, "slow")
        damaged, whole = (
            await h.start("slow", number=1),
            await h.submit("slow", {"number": 2}, session=await h.session()),
        )
        await h.advance(10)
        await worker.kill()
        await h.kill_core()
        journal = h.store._logs[names.journal_log(damaged.id)]  # noqa: SLF001  # what a disk would do to it
        journal[0] = damage(journal[0])
        await h.start_core()
        await worker.start()
        with pytest.raises(TaskFailed, match=r"StoreDamaged.*journal"):
            await damaged.result()
        assert await whole.result() == 2
