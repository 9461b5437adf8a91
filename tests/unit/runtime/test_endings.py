"""How runs end when they do not simply finish: nothing hangs, and nothing is left at work."""

import asyncio
import gc
import logging
import weakref
from collections import Counter
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.plugins.basic import basic_runtime

from arriero.runtime import public as public_module
from arriero.runtime import run as run_module
from arriero.runtime import runner as runner_module
from arriero.runtime.failures import StepFailed
from arriero.runtime.run import Run
from arriero.runtime.runner import WorkflowRunner
from arriero.runtime.session import SessionState
from arriero.runtime.stream import RunStream
from tests.unit.runtime import flows
from tests.unit.runtime.conftest import Runs


async def cancel(task: asyncio.Task[Any]) -> float:
    """Cancel it, and give the seconds until it has ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    return loop.time() - began


async def test_cancelling_a_run_cancels_its_steps_at_once(run: Runs) -> None:
    workflow = flows.Forever(timeout=None)
    task = asyncio.create_task(run(workflow))
    await workflow.began.wait()
    assert await cancel(task) < 0.2
    assert workflow.ended.is_set()
    assert run.events == []


async def test_a_run_can_be_cancelled_at_any_moment(run: Runs) -> None:
    for turns in range(40):
        workflow = flows.FanOut(timeout=None)
        task = asyncio.create_task(run(workflow, count=8))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.done():
            assert await cancel(task) < 0.2


async def test_a_step_that_swallows_its_cancellation_does_not_hold_up_who_cancels(
    direct: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = flows.Stubborn(timeout=None)
    task = asyncio.create_task(direct(workflow))
    await workflow.began.wait()
    assert run_module.GRACE <= await cancel(task) < run_module.GRACE + 0.3
    assert "step wait of Stubborn of run run-1 goes on although the run is over" in caplog.text
    overdue = set(run_module.overdue)
    assert len(overdue) == 1
    workflow.release.set()
    await asyncio.wait(overdue)
    await asyncio.sleep(0)
    assert not run_module.overdue
    assert direct.events == []


async def test_it_does_not_by_the_public_interface_either(run: Runs) -> None:
    workflow = flows.Stubborn(timeout=None)
    task = asyncio.create_task(run(workflow))
    await workflow.began.wait()
    assert await cancel(task) < 1.2
    workflow.release.set()
    await asyncio.wait(overdue_steps())


async def test_nor_does_it_hold_up_a_run_that_has_its_result(direct: Runs, caplog: pytest.LogCaptureFixture) -> None:
    workflow = flows.Early(timeout=None)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await direct(workflow)).value == "quick"
    assert loop.time() - began < run_module.GRACE + 0.3
    assert "step slow of Early" in caplog.text
    workflow.release.set()
    await asyncio.wait(set(run_module.overdue))


async def test_a_second_cancellation_is_not_made_to_wait(direct: Runs) -> None:
    workflow = flows.Stubborn(timeout=None)
    task = asyncio.create_task(direct(workflow))
    await workflow.began.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert await cancel(task) < 0.2
    workflow.release.set()
    await asyncio.wait(set(run_module.overdue))


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
async def test_a_step_that_leaves_or_cancels_itself_fails_its_run_and_nothing_else(
    direct: Runs, error: BaseException
) -> None:
    with pytest.raises(StepFailed) as caught:
        await asyncio.wait_for(direct(flows.Leaving(), error=error), 5)
    assert caught.value.step == "leave"
    assert caught.value.cause is error


async def test_a_reader_that_raises_ends_the_run_with_its_error(run: Runs) -> None:
    def on_event(data: dict[str, Any], name: str) -> None:
        raise LookupError(name)

    with pytest.raises(LookupError, match="Progress"):
        await run.runner(flows.Noting(timeout=None)).run(
            {"event": flows.Progress(step=1)}, run_id="r", context=None, on_event=on_event
        )


async def test_a_waiting_run_survives_a_collection(direct: Runs) -> None:
    workflow = flows.Forever(timeout=None)
    ends: list[str] = []

    async def follow() -> None:
        try:
            await WorkflowRunner(workflow).run({}, run_id="r", context=None, on_event=lambda data, name: None)
        finally:
            ends.append("ended")

    seen = weakref.ref(asyncio.ensure_future(follow()))
    await workflow.began.wait()
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
    task = seen()
    assert task is not None
    assert not ends
    await cancel(task)


async def test_a_workflow_goes_when_nobody_holds_it(direct: Runs) -> None:
    workflow = flows.Echo()
    gone = weakref.ref(workflow)
    await WorkflowRunner(workflow).run({}, run_id="r", context=None, on_event=lambda data, name: None)
    del workflow
    gc.collect()
    assert gone() is None


async def test_what_a_step_leaves_behind_does_not_hold_the_run(direct: Runs) -> None:
    class Leaving(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            # A timer keeps a copy of the context variables for as long as it runs.
            timers.append(asyncio.get_running_loop().call_later(3600, print))
            await ctx.store.set("big", "x" * 1000)
            states.append(weakref.ref(ctx.store))
            return StopEvent()

    timers: list[asyncio.TimerHandle] = []
    states: list[weakref.ref[Any]] = []
    await direct(Leaving())
    gc.collect()
    assert states[0]() is None
    timers[0].cancel()


async def test_a_run_makes_no_cycles_for_the_collector(direct: Runs) -> None:
    runner = direct.runner(flows.Streaming())
    gc.collect()
    before = ours()
    gc.disable()
    try:
        for n in range(10):
            await runner.run({"count": 1}, run_id=f"r{n}", context=None, on_event=lambda data, name: None)
        assert ours() == before
    finally:
        gc.enable()


async def test_ten_thousand_runs_leave_nothing(run: Runs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    count = 10_000 if run.way == "direct" else 1_000
    runner = run.runner(flows.Streaming(num_concurrent_runs=64))

    async def many(number: int) -> None:
        for _ in range(number // 50):
            await asyncio.gather(
                *(
                    runner.run({"count": 1}, run_id=f"r{n}", context=None, on_event=lambda data, name: None)
                    for n in range(50)
                )
            )

    await many(500)
    before = alive()
    await many(count)
    grown = {kind: n for kind, n in (alive() - before).items() if n > 50}
    assert not grown
    assert not runner_module.live
    assert not public_module.live
    assert not run_module.overdue
    assert not basic_runtime._queues  # noqa: SLF001  # the engine's registry of runs
    assert len(asyncio.all_tasks()) == 1


def overdue_steps() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]  # there is one in a test


def ours() -> int:
    return sum(isinstance(each, Run | RunStream | SessionState) for each in gc.get_objects())


def alive() -> Counter[str]:
    gc.collect()
    return Counter(type(each).__qualname__ for each in gc.get_objects())
