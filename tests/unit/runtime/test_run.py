"""The adapter between a run and the engine, by itself."""

import asyncio
import inspect
from typing import Any

from workflows.runtime.types.named_task import PendingPull, PendingStart, PendingWorker, PullTask, WorkerTask
from workflows.runtime.types.plugin import WaitResultTick, WaitResultTimeout
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickCancelRun, TickIdleCheck, TickPublishEvent

from arriero.runtime.run import Run
from arriero.runtime.session import SessionCodec, SessionState
from arriero.runtime.stream import RunStream
from tests.unit.runtime import flows


def new_run(events: list[Any] | None = None) -> Run:
    workflow = flows.Echo()
    seen = events if events is not None else []
    stream = RunStream(lambda data, name: seen.append(name))
    return Run(workflow, "run-1", stream, SessionState(SessionCodec(workflow), None))


def worker(coro: Any) -> PendingWorker:
    return PendingWorker(StepId.root("only"), 0, coro)


async def pull() -> None:
    """Stands where the engine's own coroutine would receive a tick; the run takes ticks without it."""
    raise AssertionError("it is not awaited")


async def give(value: Any) -> Any:
    return value


async def test_every_pending_thing_is_started_and_one_is_given_back_at_a_time() -> None:
    run = new_run()
    pending: list[PendingStart] = [worker(give(1)), worker(give(2)), PendingPull(0, pull())]
    first = await run.wait_for_next_task([], pending)
    assert [type(each) for each in first.started] == [WorkerTask, WorkerTask, PullTask]
    assert first.completed is not None
    second = await run.wait_for_next_task(first.started, [])
    assert second.completed is not None
    assert {first.completed.result(), second.completed.result()} == {1, 2}
    assert {first.completed, second.completed} == {each.task for each in first.started[:2]}
    await run.end()


async def test_steps_come_before_ticks_and_ticks_in_their_order() -> None:
    run = new_run()
    ticks = [TickIdleCheck(), TickCancelRun()]
    step = asyncio.Event()
    waiting = await run.wait_for_next_task([], [worker(step.wait()), PendingPull(0, pull())], 0.0)
    assert waiting.completed is None
    for tick in ticks:
        await run.send_event(tick)
    step.set()
    await asyncio.sleep(0)
    results = []
    for pending in ([], [], [PendingPull(1, pull())]):
        found = await run.wait_for_next_task(waiting.started, pending)
        assert found.completed is not None
        results.append(found.completed.result())
    assert results == [True, *ticks]
    await run.end()


async def test_a_wait_ends_with_nothing_when_its_time_is_over() -> None:
    run = new_run()
    forever = worker(asyncio.Event().wait())
    found = await run.wait_for_next_task([], [forever, PendingPull(0, pull())], 0.01)
    assert found.completed is None
    assert await run.wait_receive(0.01) == WaitResultTimeout()
    await run.send_event(TickCancelRun())
    assert await run.wait_receive(None) == WaitResultTick(TickCancelRun())
    await run.end()


async def test_a_step_that_had_not_begun_when_its_run_ended_never_begins() -> None:
    run = new_run()
    await run.send_event(TickCancelRun())
    step = give("never")
    await run.wait_for_next_task([], [worker(step), PendingPull(0, pull())])
    await run.end()
    assert inspect.getcoroutinestate(step) == inspect.CORO_CLOSED


async def test_what_a_step_publishes_after_the_end_goes_nowhere() -> None:
    events: list[Any] = []
    run = new_run(events)
    await run.write_to_event_stream(flows.Progress(step=1))
    await run.end()
    await run.write_to_event_stream(flows.Progress(step=2))
    assert events == ["Progress"]


async def test_a_run_has_one_store_for_all_its_steps() -> None:
    run = new_run()
    assert run.get_state_store() is run.get_state_store(())
    assert run.get_state_store(("child",)) is None
    await run.end()


async def test_ticks_of_other_kinds_are_passed_on_as_they_are() -> None:
    run = new_run()
    tick = TickPublishEvent(event=flows.Progress(step=1))
    await run.send_event(tick)
    found = await run.wait_for_next_task([], [PendingPull(0, pull())])
    assert found.completed is not None
    assert found.completed.result() is tick
    await run.end()
