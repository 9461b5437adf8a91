"""The harness in which users test their own workflows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from arriero.testing import Harness
from arriero.types.errors import AlreadyAnswered, TaskFailed, TaskTimedOut, WaitTimeout
from arriero.types.tasks import TaskStatus


class Middle(Event):
    x: int


class Chain(Workflow):
    @step
    async def first(self, ctx: Context, ev: StartEvent) -> Middle:
        ctx.write_event_to_stream(Middle(x=ev.x))
        return Middle(x=ev.x + 1)

    @step
    async def second(self, ev: Middle) -> StopEvent:
        await asyncio.sleep(3600)
        return StopEvent(result={"x": ev.x})


class Yes(HumanResponseEvent):
    word: str


class Asking(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="sure?")

    @step
    async def answered(self, ev: Yes) -> StopEvent:
        return StopEvent(result=ev.word)


@pytest.fixture
async def h() -> AsyncIterator[Harness]:
    async with Harness() as harness:
        yield harness


async def test_a_workflow_runs_and_its_sleep_takes_no_time(h: Harness) -> None:
    began = time.monotonic()
    await h.serve(Chain, "chain")
    assert await h.run("chain", x=1) == '{"x":2}'
    assert await h.call("chain", x=2) == {"x": 3}
    assert h.steps["chain"] == {"first": 2, "second": 2}
    assert time.monotonic() - began < 5
    assert h.time.passed >= 7200


async def test_a_killed_worker_s_run_goes_on_with_the_next(h: Harness) -> None:
    one = await h.serve(Chain, "chain")
    task = await h.start("chain", x=1)
    await h.advance(10)
    assert (await task.status()).status is TaskStatus.RUNNING
    await one.kill()
    await h.serve(Chain, "chain")
    assert await task.result() == {"x": 2}
    assert h.steps["chain"] == {"first": 1, "second": 2}
    kinds = [entry.kind for entry in await task.entries()]
    assert kinds == ["event", "restarted", "event", "end"]


@pytest.mark.shows("down.control-plane")
async def test_a_run_goes_on_while_the_control_plane_is_away(h: Harness) -> None:
    await h.serve(Chain, "chain")
    task = await h.start("chain", x=1)
    await h.advance(10)
    await h.kill_core()
    await h.advance(7200)
    await h.start_core()
    assert await task.result() == {"x": 2}
    assert h.steps["chain"] == {"first": 1, "second": 1}


async def test_a_question_waits_for_hours_and_is_answered_once(h: Harness) -> None:
    worker = await h.serve(Asking, "asking")
    task = await h.start("asking")
    assert (await task.event("InputRequiredEvent"))["_data"] == {"prefix": "sure?"}
    await worker.kill()
    await h.restart_core()
    await h.advance(3 * 3600)
    await task.send(Yes(word="yes"))
    with pytest.raises(AlreadyAnswered):
        await task.send(Yes(word="no"))
    await worker.start()
    assert await task.text() == "yes"


@pytest.mark.shows("event.unmatched")
async def test_an_answer_that_no_step_takes_leaves_its_question_open(h: Harness) -> None:
    await h.serve(Asking, "asking")
    task = await h.start("asking")
    await task.event("InputRequiredEvent")
    await task.send(HumanResponseEvent(response="who asks?"))
    await task.event("UnhandledEvent")
    await h.settle()
    assert {"unmatched": ["HumanResponseEvent"]} in (await task.status()).waits_for
    await task.send(Yes(word="yes"))
    with pytest.raises(AlreadyAnswered):
        await task.send(Yes(word="no"))
    assert await task.text() == "yes"


@pytest.mark.shows("deadline.left")
async def test_a_workflow_s_own_limit_does_not_count_the_time_for_which_its_run_was_left(h: Harness) -> None:
    await h.serve(Asking(timeout=10), "asking")
    task = await h.start("asking")
    await task.event("InputRequiredEvent")
    await h.advance(3600)
    assert (await task.status()).status is TaskStatus.WAITING
    await task.send(Yes(word="yes"))
    assert await task.text() == "yes"


async def test_a_wait_ends_at_the_limit_that_its_step_named(h: Harness) -> None:
    class Impatient(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                await ctx.wait_for_event(Yes, timeout=600)
            except TimeoutError:
                return StopEvent(result="nobody")
            return StopEvent(result="somebody")

    worker = await h.serve(Impatient, "impatient")
    task = await h.start("impatient")
    await h.advance(300)
    await worker.kill()
    await worker.start()
    assert await task.text() == "nobody"
    assert 599 < h.time.passed < 610


async def test_functions_fail_typed_and_work_in_threads_is_waited_for(h: Harness) -> None:
    def halve(number: int) -> float:
        time.sleep(0.01)
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number / 2

    await h.serve(halve, "halve")
    assert await h.call("halve", number=4) == 2
    with pytest.raises(TaskFailed, match="3 is odd"):
        await h.call("halve", number=3)


async def test_a_failed_step_is_tried_again_without_waiting(h: Harness) -> None:
    tries: list[float] = []

    class Shaky(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(60), stop=stop_after_attempt(4)))
        async def only(self, ev: StartEvent) -> StopEvent:
            tries.append(h.time.passed)
            if len(tries) < 3:
                raise OSError("not yet")
            return StopEvent(result=len(tries))

    await h.serve(Shaky, "shaky")
    assert await h.call("shaky") == 3
    assert [round(later - earlier) for earlier, later in pairwise(tries)] == [60, 60]


async def test_deadlines_and_patience_count_virtual_seconds(h: Harness) -> None:
    await h.serve(Chain, "chain")
    with pytest.raises(TaskTimedOut, match="60 s"):
        await (await h.submit("chain", {"x": 1}, deadline=60)).result()
    with pytest.raises(WaitTimeout, match="running"):
        await (await h.start("chain", x=1)).result(within=60)
