"""Runs that go on from their journals, wherever they were cut off."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from arriero.runtime.journal import Summary
from arriero.runtime.nested import Nested
from arriero.services.handlers import WorkflowHandler, WorkflowOptions
from arriero.types.errors import NotJSON, StoreDamaged
from tests.unit.runtime.desk import Desk, Died

done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


class First(Event):
    value: int


class Second(Event):
    value: int


class Chain(Workflow):
    @step
    async def one(self, ev: StartEvent) -> First:
        done["one"] += 1
        return First(value=ev.x + 1)

    @step
    async def two(self, ctx: Context, ev: First) -> Second:
        done["two"] += 1
        async with ctx.store.edit_state() as state:
            state["seen"] = [*state.get("seen", []), ev.value]
        ctx.write_event_to_stream(First(value=ev.value))
        return Second(value=ev.value + 1)

    @step
    async def three(self, ctx: Context, ev: Second) -> StopEvent:
        done["three"] += 1
        return StopEvent(result={"value": ev.value, "seen": await ctx.store.get("seen")})


async def survives(make: Callable[[], Workflow], **arguments: Any) -> tuple[list[Desk], list[Any]]:
    """Run to the end once, then again with a death at each write; gives the last desks and their results."""
    first = Desk(**arguments)
    results = [(await first.handle(WorkflowHandler(make()))).value]
    desks = [first]
    for number in range(len(first.entries)):
        done.clear()
        desk = Desk(**arguments)
        desk.dies_at = number
        with pytest.raises(Died):
            await desk.handle(WorkflowHandler(make()))
        after = desk.again()
        results.append((await after.handle(WorkflowHandler(make()))).value)
        desks.append(after)
    return desks, results


@pytest.mark.shows("journal.one-step")
async def test_a_run_of_one_step_writes_nothing() -> None:
    class Single(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

    desk = Desk()
    assert (await desk.handle(WorkflowHandler(Single()))).value == 1
    assert desk.entries == []


@pytest.mark.shows("journal.ahead")
async def test_a_run_ends_the_same_wherever_it_was_cut_off() -> None:
    desks, results = await survives(Chain, x=1)
    assert len(desks) == 3
    assert results == [{"value": 3, "seen": [2]}] * 3
    assert all([data["value"] for data in desk.data("First")] == [2] for desk in desks)


@pytest.mark.shows("journal.ahead")
async def test_finished_steps_do_not_run_again() -> None:
    desk = _dies_before(Desk(x=1), "three")
    handler = WorkflowHandler(Chain())
    with pytest.raises(Died):
        await desk.handle(handler)
    await desk.again().handle(handler)
    assert done == {"one": 1, "two": 1, "three": 1}


def _dies_before(desk: Desk, name: str) -> Desk:
    """A desk whose worker dies when that step is about to begin: after the write before it."""
    write = desk.record

    async def record(entry: Any, shape: str = "", **how: Any) -> None:
        await write(entry, shape, **how)
        if len(desk.entries) == 2:
            raise Died

    desk.record = record  # type: ignore[method-assign]  # dies after the write
    return desk


@pytest.mark.shows("journal.state")
async def test_a_state_that_was_changed_before_is_patched_not_written_again() -> None:
    class Long(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> First:
            await ctx.store.set("big", list(range(1000)))
            return First(value=0)

        @step
        async def loop(self, ctx: Context, ev: First) -> First | StopEvent:
            await ctx.store.set("count", ev.value)
            return First(value=ev.value + 1) if ev.value < 5 else StopEvent(result=await ctx.store.get("count"))

    desks, results = await survives(Long)
    assert results == [5] * len(desks)
    assert "state" in desks[0].entries[0]
    assert all(len(str(entry)) < 2000 for entry in desks[0].entries[1:])


class Item(Event):
    n: int


class Did(Event):
    n: int


class Fan(Workflow):
    """Sends its items while it runs, and gathers what came of them."""

    @step
    async def spread(self, ctx: Context, ev: StartEvent) -> Item | None:
        for n in range(ev.count):
            ctx.send_event(Item(n=n))
        await ctx.store.set("count", ev.count)

    @step(num_workers=4)
    async def work(self, ev: Item) -> Did:
        done[f"work {ev.n}"] += 1
        return Did(n=ev.n)

    @step
    async def gather(self, ctx: Context, ev: Did) -> StopEvent | None:
        got = ctx.collect_events(ev, [Did] * await ctx.store.get("count"))
        return None if got is None else StopEvent(result=sorted(each.n for each in got))


@pytest.mark.shows("journal.sends")
async def test_what_a_step_sends_arrives_once_wherever_the_run_was_cut_off() -> None:
    desks, results = await survives(Fan, count=4)
    assert results == [[0, 1, 2, 3]] * len(desks)


@pytest.mark.shows("journal.sends")
async def test_work_that_was_done_in_a_fan_is_not_done_again() -> None:
    desk = Desk(count=4)
    desk.dies_at = 4
    with pytest.raises(Died):
        await desk.handle(WorkflowHandler(Fan()))
    before = Counter(done)
    written = sum(tick["type"] == "step_result" and tick["step_id"] == "work" for tick in _ticks(desk))
    await desk.again().handle(WorkflowHandler(Fan()))
    assert written > 0
    assert sum((done - before).values()) == 4 - written


def _ticks(desk: Desk) -> list[dict[str, Any]]:
    return [tick for entry in desk.entries for tick in entry["ticks"]]


@pytest.mark.shows("journal.eager")
async def test_eager_sends_are_delivered_while_the_step_still_runs() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Eager(Workflow):
        @step
        async def spread(self, ctx: Context, ev: StartEvent) -> Item | None:
            ctx.send_event(Item(n=1))
            await begun.wait()
            go_on.set()

        @step
        async def work(self, ev: Item) -> StopEvent:
            begun.set()
            await go_on.wait()
            return StopEvent(result="done")

    handled = await Desk().handle(WorkflowHandler(Eager(), WorkflowOptions(sends="eager")))
    assert handled.value == "done"


class Sure(InputRequiredEvent):
    question: str


class Answer(HumanResponseEvent):
    text: str


class Asks(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Sure:
        done["ask"] += 1
        return Sure(question="sure?")

    @step
    async def answered(self, ev: Answer) -> StopEvent:
        done["answered"] += 1
        return StopEvent(result=ev.text)


@pytest.mark.shows("wait.left")
async def test_a_run_that_waits_is_left_and_goes_on_with_the_answer() -> None:
    desk = Desk()
    with pytest.raises(Died):
        async with asyncio.timeout(5):
            await _left(desk, WorkflowHandler(Asks(), WorkflowOptions(linger=0.0)))
    assert desk.questions == 1
    [(events, wake_after, _)] = desk.left
    assert ("Answer" in events, wake_after) == (True, None)
    after = desk.again()
    after.send("Answer", text="yes")
    assert (await after.handle(WorkflowHandler(Asks()))).value == "yes"
    assert (after.questions, done) == (1, {"ask": 1, "answered": 1})


class Picky(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, waiter_event=Sure(question="sure?"), requirements={"text": "yes"})
        return StopEvent(result=answer.text)


@pytest.mark.parametrize("every", [1, 128])
async def test_what_is_required_of_an_answer_is_still_required_after_the_run_was_left(
    monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(Summary, "EVERY", every)
    desk = Desk()
    with pytest.raises(Died):
        await _left(desk, WorkflowHandler(Picky(), WorkflowOptions(linger=0.0)))
    after = desk.again()
    after.send("Answer", text="no")
    after.send("Answer", text="yes")
    assert (await after.handle(WorkflowHandler(Picky()))).value == "yes"


async def _left(desk: Desk, handler: WorkflowHandler) -> None:
    """Handle it as a worker does, which cancels a handler that has left."""
    task = asyncio.ensure_future(desk.handle(handler))
    await asyncio.wait({task, asyncio.ensure_future(desk.has_left.wait())}, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    raise Died


async def test_a_question_that_was_not_asked_any_more_is_asked_when_the_run_goes_on() -> None:
    desk = Desk()
    desk.dies_at = 1
    with pytest.raises(Died):
        await desk.handle(WorkflowHandler(Asks()))
    after = desk.again()
    assert after.questions == 0
    run = asyncio.ensure_future(after.handle(WorkflowHandler(Asks())))
    await after.asked(1)
    after.send("Answer", text="yes")
    assert (await run).value == "yes"
    assert (after.questions, done["ask"]) == (1, 1)


@pytest.mark.shows("journal.inbox")
async def test_an_answer_that_was_taken_is_not_taken_again() -> None:
    class Twice(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> Sure:
            return Sure(question="first?")

        @step
        async def first(self, ctx: Context, ev: Answer) -> First | StopEvent:
            done[ev.text] += 1
            async with ctx.store.edit_state() as state:
                state["texts"] = [*state.get("texts", []), ev.text]
            return First(value=1) if len(await ctx.store.get("texts", [])) < 1 or ev.text == "a" else StopEvent("end")

        @step
        async def again(self, ev: First) -> Sure:
            return Sure(question="second?")

    desk = Desk()
    desk.send("Answer", text="a")
    desk.dies_at = 3
    with pytest.raises(Died):
        await desk.handle(WorkflowHandler(Twice()))
    after = desk.again()
    run = asyncio.ensure_future(after.handle(WorkflowHandler(Twice())))
    await after.asked(2)
    after.send("Answer", text="b")
    assert (await run).value == "end"
    assert done == {"a": 1, "b": 1}


async def test_a_step_that_waits_for_an_event_gives_up_in_time_also_after_it_was_left() -> None:
    class Patient(Workflow):
        @step
        async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
            done["wait"] += 1
            try:
                answer = await ctx.wait_for_event(Answer, waiter_event=Sure(question="?"), timeout=0.2)
            except TimeoutError:
                return StopEvent(result="late")
            return StopEvent(result=answer.text)

    desk = Desk()
    handler = WorkflowHandler(Patient(), WorkflowOptions(linger=0.0))
    with pytest.raises(Died):
        await _left(desk, handler)
    [(_, wake_after, _)] = desk.left
    assert wake_after is not None
    assert 0 <= wake_after <= 0.2
    assert (await desk.again().handle(WorkflowHandler(Patient(), WorkflowOptions(linger=9.0)))).value == "late"


async def test_a_retry_of_a_step_goes_on_counting() -> None:
    class Shaky(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> First:
            done["begin"] += 1
            return First(value=1)

        @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
        async def shake(self, ev: First) -> StopEvent:
            done["shake"] += 1
            if done["shake"] < 3:
                raise ValueError("not yet")
            return StopEvent(result=done["shake"])

    desk = Desk()
    desk.dies_at = 2
    with pytest.raises(Died):
        await desk.handle(WorkflowHandler(Shaky()))
    assert (await desk.again().handle(WorkflowHandler(Shaky()))).value == 3
    assert done["begin"] == 1


async def test_a_child_that_had_ended_is_called_by_the_same_name_when_its_step_runs_again() -> None:
    async def inner(n: int) -> int:
        done["inner"] += 1
        return n * 2

    desk = Desk({"inner": inner}, x=1)
    assert (await desk.handle(WorkflowHandler(Calls()))).value == 4
    assert len(desk.entries) == 2
    after = desk.again()  # its worker died when the child had ended
    assert (await after.handle(WorkflowHandler(Calls()))).value == 4
    assert [call[2] for call in after.calls] == [call[2] for call in desk.calls]


async def test_a_journal_of_other_steps_is_not_continued() -> None:
    class Other(Workflow):
        @step
        async def one(self, ev: StartEvent) -> First:
            return First(value=1)

        @step
        async def renamed(self, ev: First) -> StopEvent:
            return StopEvent(result=1)

    desk = Desk(x=1)
    desk.dies_at = 1
    with pytest.raises(Died):
        await desk.handle(WorkflowHandler(Chain()))
    after = desk.again()
    with pytest.raises(Died):
        await after.handle(WorkflowHandler(Other()))
    assert after.left[0][2].startswith("workflow_changed")


async def test_a_damaged_entry_is_told_from_a_good_one() -> None:
    desk = _dies_before(Desk(x=1), "three")
    with pytest.raises(Died):
        await desk.handle(WorkflowHandler(Chain()))
    desk.entries[0]["ticks"][1]["event"]["qualified_name"] = "os.system"
    with pytest.raises(StoreDamaged, match=r"os\.system"):
        await desk.again().handle(WorkflowHandler(Chain()))


class Inner(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=None)


class Calls(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> First:
        return First(value=ev.x + 1)

    @step
    async def call(self, ev: First, inner: Annotated[Inner, Nested()]) -> StopEvent:
        return StopEvent(result=await inner.run(n=ev.value))


class Held(BaseModel):
    n: int


async def test_an_event_that_would_come_back_as_something_else_fails_the_run_that_wrote_it() -> None:
    class Loose(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> First:
            event = First(value=1)
            event["held"] = Held(n=1)
            return event

        @step
        async def end(self, ev: First) -> StopEvent:
            return StopEvent(result=ev["held"].n)

    with pytest.raises(NotJSON, match=r"First of Loose.*'held'.*durability"):
        await Desk().handle(WorkflowHandler(Loose()))
    handled = await Desk().handle(WorkflowHandler(Loose(), WorkflowOptions(durability="task")))
    assert handled.value == 1


async def test_an_event_that_its_taker_spoils_is_looked_at_again_when_it_is_written_again() -> None:
    class Spoiling(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> First:
            return First(value=1, held=[])

        @step
        async def middle(self, ev: First) -> Second:
            ev["held"] = Held(n=1)
            return Second(value=2)

        @step
        async def end(self, ev: Second) -> StopEvent:
            return StopEvent(result=ev.value)

    with pytest.raises(NotJSON, match=r"First of Spoiling.*'held'"):
        await Desk().handle(WorkflowHandler(Spoiling()))


async def test_what_looks_like_a_mark_in_the_input_stays_what_it_is() -> None:
    marked = {"__is_pydantic": True, "value": {}, "qualified_name": "os.system"}

    class Echo(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> First:
            return First(value=1, given=ev.given)

        @step
        async def end(self, ev: First) -> StopEvent:
            return StopEvent(result=ev.given)

    _, results = await survives(Echo, given=marked)
    assert results == [marked] * len(results)


class Loop(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> First:
        await ctx.store.set("sum", 0)
        return First(value=0)

    @step
    async def go(self, ctx: Context, ev: First) -> First | StopEvent:
        done[f"go {ev.value}"] += 1
        async with ctx.store.edit_state() as state:
            state["sum"] += ev.value
        return First(value=ev.value + 1) if ev.value < 12 else StopEvent(result=await ctx.store.get("sum"))


@pytest.mark.shows("journal.summary")
async def test_a_long_run_goes_on_from_an_entry_that_says_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Summary, "EVERY", 4)
    desks, results = await survives(Loop)
    assert results == [78] * len(desks)
    assert desks[0].base > 0
    cut = Desk()
    cut.dies_at = len(desks[0].entries) - 1
    with pytest.raises(Died):
        await cut.handle(WorkflowHandler(Loop()))
    after = cut.again()
    assert len(after.grant.journal) <= 5
    assert (await after.handle(WorkflowHandler(Loop()))).value == 78


async def test_answers_and_waits_outlive_an_entry_that_says_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Summary, "EVERY", 1)

    class Patient(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> First:
            return First(value=1)

        @step
        async def wait(self, ctx: Context, ev: First) -> StopEvent:
            answer = await ctx.wait_for_event(Answer, waiter_event=Sure(question="?"), timeout=60.0)
            return StopEvent(result=answer.text)

    desk = Desk()
    with pytest.raises(Died):
        await _left(desk, WorkflowHandler(Patient(), WorkflowOptions(linger=0.0)))
    assert desk.left[0][1] is not None
    after = desk.again()
    after.send("Answer", text="yes")
    assert (await after.handle(WorkflowHandler(Patient()))).value == "yes"
    assert after.questions == 1


async def test_a_run_that_waits_long_to_try_a_step_again_is_left_until_then() -> None:
    class Slow(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(60.0), stop=stop_after_attempt(3)))
        async def shake(self, ev: StartEvent) -> StopEvent:
            raise ValueError("not yet")

    desk = Desk()
    with pytest.raises(Died):
        await _left(desk, WorkflowHandler(Slow(), WorkflowOptions(linger=0.0)))
    [(events, wake_after, _)] = desk.left
    assert events == []
    assert wake_after is not None
    assert 50 < wake_after <= 60


@pytest.mark.shows("journal.calls")
async def test_before_a_child_is_called_the_journal_has_what_led_to_it() -> None:
    async def inner(n: int) -> int:
        done["entries"] = len(desk.entries)
        return n

    class CallsAtOnce(Workflow):
        @step
        async def only(self, ev: StartEvent, inner: Annotated[Workflow, Nested()]) -> StopEvent:
            return StopEvent(result=await inner.run(n=ev.x))

    desk = Desk({"inner": inner}, x=1)
    assert (await desk.handle(WorkflowHandler(CallsAtOnce()))).value == 1
    assert done["entries"] == len(desk.entries) == 1
    assert "add_event" in [tick["type"] for tick in desk.entries[0]["ticks"]]


@pytest.mark.shows("default.durability")
@pytest.mark.parametrize(("durability", "keeps"), [("journal", True), ("task", True), ("none", False)])
async def test_how_much_is_kept_is_what_was_asked_for(durability: str, keeps: bool) -> None:
    desk = Desk(x=1)
    handled = await desk.handle(WorkflowHandler(Chain(), WorkflowOptions(durability=durability)))
    assert bool(desk.entries) is (durability == "journal")
    assert (handled.context is not None) is keeps
