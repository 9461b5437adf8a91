"""The test that kills what runs a workflow after each of its writes."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero import Nested
from arriero.testing import crash_test


class Next(Event):
    number: int


class Chain(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Next:
        await ctx.store.set("count", ev.count)
        return Next(number=0)

    @step
    async def go(self, ctx: Context, ev: Next) -> Next | StopEvent:
        ctx.write_event_to_stream(Next(number=ev.number))
        async with ctx.store.edit_state() as state:
            state["seen"] = [*state.get("seen", []), ev.number]
        if ev.number + 1 < await ctx.store.get("count"):
            return Next(number=ev.number + 1)
        return StopEvent(result=await ctx.store.get("seen"))


class Yes(HumanResponseEvent):
    word: str


class Asking(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="sure?")

    @step
    async def answered(self, ev: Yes) -> StopEvent:
        return StopEvent(result=ev.word)


@pytest.mark.shows("journal.ahead")
async def test_a_chain_of_steps_ends_the_same_wherever_it_is_killed() -> None:
    report = await crash_test(Chain, {"count": 4})
    assert report.outcome.value == [0, 1, 2, 3]
    assert report.steps == {"begin": 1, "go": 4}
    assert len(report.writes) >= 6
    assert report.kills == 3 * len(report.writes)


async def test_a_question_is_answered_once_wherever_it_is_killed() -> None:
    report = await crash_test(Asking, events=[Yes(word="yes")])
    assert report.outcome.value == "yes"
    assert "an event from outside" in " ".join(report.writes)


@pytest.mark.shows("again.children")
async def test_a_child_is_started_once_wherever_its_parent_is_killed() -> None:
    calls: Counter[str] = Counter()

    def double(number: int) -> int:
        calls[str(number)] += 1
        return 2 * number

    class Parent(Workflow):
        @step
        async def only(self, ev: StartEvent, double: Annotated[Workflow, Nested()]) -> Next:
            return Next(number=int(await double.run(number=ev.number)))

        @step
        async def last(self, ev: Next) -> StopEvent:
            return StopEvent(result=ev.number)

    report = await crash_test(Parent, {"number": 4}, services={"double": double})
    assert report.outcome.value == 8
    assert any("item of 'double'" in write for write in report.writes)


async def test_a_failure_is_the_same_failure_wherever_it_is_killed() -> None:
    class Failing(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Next:
            return Next(number=1)

        @step
        async def fail(self, ev: Next) -> StopEvent:
            raise ValueError(f"no {ev.number}")

    report = await crash_test(Failing)
    assert report.outcome.error == "ValueError: no 1"


async def test_a_workflow_whose_end_depends_on_memory_is_found_out() -> None:
    class Forgetful(Workflow):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[int] = []

        @step
        async def begin(self, ev: StartEvent) -> Next:
            self.seen.append(1)
            return Next(number=2)

        @step
        async def end(self, ev: Next) -> StopEvent:
            return StopEvent(result=self.seen)

    with pytest.raises(AssertionError, match=r"the worker killed after write \d+ .*journal.*completed with \[\]"):
        await crash_test(Forgetful)


@pytest.mark.shows("default.durability")
async def test_without_a_journal_steps_are_found_to_run_again() -> None:
    class Effect(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Next:
            return Next(number=2)

        @step
        async def end(self, ctx: Context, ev: Next) -> StopEvent:
            return StopEvent(result=ev.number)

    report = await crash_test(Effect, durability="task")
    assert report.outcome.value == 2
    assert not any("journal" in write for write in report.writes)


async def test_what_need_not_be_the_same_is_left_out() -> None:
    count: Any = iter(range(10_000))

    class Numbered(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result={"number": next(count), "word": "same"})

    with pytest.raises(AssertionError):
        await crash_test(Numbered)
    report = await crash_test(Numbered, same=lambda value: value["word"])
    assert report.outcome.value == "same"
