"""A run is left only while it rests."""

from __future__ import annotations

import asyncio
from typing import Any

from arriero.runtime.leaving import Leaving
from arriero.runtime.past import Waiters


class SlowJournal:
    """Its entry takes until it is told."""

    def __init__(self) -> None:
        self.waiters = Waiters()
        self.pauses_until = 0.0
        self.begun = asyncio.Event()
        self.written = asyncio.Event()

    async def flush(self) -> None:
        self.begun.set()
        await self.written.wait()


class Noting:
    """Notes that it was told to leave."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def leave(self, events: Any, **_: Any) -> None:
        self.left.set()


async def test_a_run_that_gets_an_event_while_its_journal_is_written_is_not_left() -> None:
    journal, context = SlowJournal(), Noting()
    leaving = Leaving(context, journal, 0.0)  # type: ignore[arg-type]  # as much of them as it uses
    leaving.rests(["Answer"])
    await journal.begun.wait()
    leaving.busy()
    journal.written.set()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if "leaving" in task.get_name()))
    assert not context.left.is_set()
    leaving.rests(["Answer"])
    await asyncio.wait_for(context.left.wait(), 5)
    leaving.end()
