"""Entries of a journal that could not be written, or whose writing was given up, are not left out."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from arriero.runtime.journal import RunJournal
from arriero.runtime.nested import Nested
from arriero.services.handlers import WorkflowHandler
from arriero.types.errors import NotJSON, PayloadTooLarge
from tests.unit.runtime.desk import Desk, Died

done: Counter[str] = Counter()


class First(Event):
    value: int


class Second(Event):
    value: int


class Inner(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=None)


class GivesUp(Workflow):
    """Waits for another service for as long as its patience lasts."""

    @step
    async def begin(self, ev: StartEvent) -> First:
        done["begin"] += 1
        return First(value=1)

    @step
    async def call(self, ctx: Context, ev: First, inner: Annotated[Inner, Nested()]) -> Second:
        done["call"] += 1
        await ctx.store.set("called", value=True)
        try:
            async with asyncio.timeout(0.01):
                await inner.run()
        except TimeoutError:
            return Second(value=2)
        return Second(value=3)

    @step
    async def after(self, ctx: Context, ev: Second) -> First | StopEvent:
        done["after"] += 1
        return StopEvent(result=[ev.value, await ctx.store.get("called")])


async def test_a_call_that_was_given_up_while_the_journal_was_written_leaves_no_gap_in_it() -> None:
    desk = _holds_up(Desk({"inner": _inner}), entry=1, dies_after=3)
    with pytest.raises(Died):
        await desk.handle(WorkflowHandler(GivesUp()))
    assert (await desk.again().handle(WorkflowHandler(GivesUp()))).value == [2, True]
    assert done == {"begin": 1, "call": 1, "after": 1}


async def _inner() -> None:
    """Never called: the call is given up before."""


def _holds_up(desk: Desk, entry: int, dies_after: int) -> Desk:
    """A desk that does not answer the first time that it is given that entry, and dies after so many."""
    write, held = desk.record, [entry]

    async def record(value: Any, shape: str = "", **how: Any) -> None:
        if held == [len(desk.entries)]:
            held.clear()
            await asyncio.get_running_loop().create_future()
        await write(value, shape, **how)
        if len(desk.entries) == dies_after:
            raise Died

    desk.record = record  # type: ignore[method-assign]  # as said
    return desk


class Keeper:
    """What a journal is written to and with: ticks that are words, a state that is a number, entries that may fail."""

    shape = "shape"

    def __init__(self) -> None:
        self.state = 0
        self.kept = 0
        self.entries: list[dict[str, Any]] = []
        self.fails: list[BaseException] = []
        self.tried: list[bool] = []
        self.grant = self
        self.item_id = "i"
        self.journal = RunJournal(self, self, self)  # type: ignore[arg-type]  # as much of all three as it uses

    def write(self, tick: Any, _: Any) -> Any:
        if tick == "bad":
            raise NotJSON("a bad tick")
        return tick

    def change(self) -> dict[str, Any]:
        before, self.kept = self.kept, self.state
        return {} if before == self.state else {"patch": self.state}

    async def record(self, entry: Any, shape: str, *, durable: bool = True, base: bool = False) -> None:
        self.tried.append(durable)
        if self.fails:
            raise self.fails.pop()
        self.entries.append(entry)

    async def tick(self, word: Any) -> None:
        await self.journal.on_tick(word, None)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), PayloadTooLarge("too large")])
async def test_an_entry_that_could_not_be_written_is_written_before_the_next(error: BaseException) -> None:
    keeper = Keeper()
    await keeper.tick("one")
    keeper.state = 1
    keeper.fails = [error]
    with pytest.raises(type(error)):
        await keeper.journal.flush(durable=False)
    await keeper.tick("two")
    await keeper.journal.flush()
    assert keeper.entries == [{"ticks": ["one"], "patch": 1}, {"ticks": ["two"]}]
    assert keeper.tried == [False, True, True]


async def test_a_journal_that_cannot_be_written_fails_each_time_that_it_is_to_be() -> None:
    keeper = Keeper()
    await keeper.tick("one")
    await keeper.tick("bad")
    for _ in range(2):
        with pytest.raises(NotJSON, match="a bad tick"):
            await keeper.journal.flush()
    assert keeper.entries == []
