"""Workflows that run other workflows as services, and events that reach them, through the whole system."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import workflows
from workflows import Context
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

import arriero
from arriero import AsyncLlamaDeployClient, WorkflowService
from arriero.types.errors import TaskCancelled, TaskFailed, TaskTimedOut, UnknownEvent
from arriero.types.tasks import TaskStatus
from tests.scenarios.system import at_work, control_plane

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Note(Event):
    text: str


class Double(workflows.Workflow):
    @workflows.step
    async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Note(text=f"doubling {ev.value}"))
        return StopEvent(result=ev.value * 2)


class Outer(workflows.Workflow):
    @workflows.step
    async def only(self, ev: StartEvent, double: Double) -> StopEvent:
        return StopEvent(result={"doubled": await double.run(value=ev.value)})


class Countdown(arriero.Workflow):
    @arriero.step
    async def only(self, ev: StartEvent, me: workflows.Workflow) -> StopEvent:
        return StopEvent(result=[ev.n, *(await me.run(n=ev.n - 1))] if ev.n else [0])


class Fan(arriero.Workflow):
    @arriero.step
    async def only(self, ev: StartEvent, double: Double) -> StopEvent:
        return StopEvent(result=sum(await asyncio.gather(*(double.run(value=n) for n in range(ev.count)))))


class Question(InputRequiredEvent):
    text: str


class Asks(workflows.Workflow):
    @workflows.step
    async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=Question(text="well?"))
        return StopEvent(result=answer.response)


class Between(arriero.Workflow):
    @arriero.step
    async def only(self, ev: StartEvent, asks: Asks) -> StopEvent:
        return StopEvent(result=[await asks.run()])


class Patient(workflows.Workflow):
    """Waits for a while for an answer that does not come, and then asks."""

    @workflows.step
    async def only(self, ctx: Context, ev: StartEvent, double: Double) -> StopEvent:
        try:
            await ctx.wait_for_event(HumanResponseEvent, waiter_id="first", timeout=0.2)
        except TimeoutError:
            found = await double.run(value=2)
        question = Question(text="well?")
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question, waiter_id="second")
        return StopEvent(result=[found, answer.response])


class Broken(workflows.Workflow):
    @workflows.step
    async def only(self, ev: StartEvent) -> StopEvent:
        raise KeyError("no such thing")


class Long(workflows.Workflow):
    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    @workflows.step
    async def only(self, ev: StartEvent) -> StopEvent:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return StopEvent()


class System:
    def __init__(self, plane: Any, client: AsyncLlamaDeployClient) -> None:
        self.plane = plane
        self.client = client

    @asynccontextmanager
    async def serve(self, *, slots: int = 8, **served: workflows.Workflow) -> AsyncIterator[Any]:
        """Services of these names; gives a session."""
        async with AsyncExitStack() as stack:
            for name, workflow in served.items():
                service = WorkflowService(
                    workflow, self.plane.message_queue, service_name=name, max_concurrent_tasks=slots
                )
                await stack.enter_async_context(at_work(service, self.plane.url))
            yield await self.client.create_session()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with control_plane(tmp_path) as plane, AsyncLlamaDeployClient(plane.config, timeout=60) as client:
        yield System(plane, client)


async def seen_until(session: Any, task_id: str, type: str) -> None:
    async for entry in session.follow(task_id):
        if entry.type == type:
            return
        assert not entry.is_end, entry


async def test_a_step_runs_the_service_of_its_parameters_name_and_gets_a_value(system: System) -> None:
    async with system.serve(outer=Outer(), double=Double()) as session:
        task_id = await session.run_nowait("outer", value=21)
        seen = [(entry.path, entry.type) async for entry in session.follow(task_id) if entry.kind == "event"]
        assert (await session.get_task_result(task_id)).value == {"doubled": 42}
        assert seen == [("double", "Note"), ("double", "StopEvent"), ("", "StopEvent")]
        assert len(await session.get_tasks()) == 1


async def test_the_bound_workflow_runs_in_place_of_a_service_with_the_same_stream(system: System) -> None:
    outer = Outer()
    arriero.add_workflows(outer, double=Double())
    async with system.serve(outer=outer) as session:
        task_id = await session.run_nowait("outer", value=21)
        seen = [(entry.path, entry.type) async for entry in session.follow(task_id) if entry.kind == "event"]
        assert (await session.get_task_result(task_id)).value == {"doubled": 42}
        assert seen == [("double", "Note"), ("double", "StopEvent"), ("", "StopEvent")]


@pytest.mark.shows("wait.slot")
async def test_a_service_that_calls_itself_needs_no_more_than_one_slot(system: System) -> None:
    async with system.serve(me=Countdown(), slots=1) as session:
        assert await session.call("me", {"n": 5}) == [5, 4, 3, 2, 1, 0]


async def test_a_thousand_children_of_one_parent(system: System) -> None:
    async with system.serve(fan=Fan(), double=Double()) as session:
        assert await session.call("fan", {"count": 1000}) == 999_000


async def test_a_childs_failure_reaches_its_caller(system: System) -> None:
    async with system.serve(outer=Outer(), double=Broken()) as session:
        with pytest.raises(TaskFailed, match="no such thing"):
            await session.run("outer", value=1)


@pytest.mark.parametrize("is_bound", [False, True])
async def test_an_answer_reaches_the_child_that_asked(system: System, *, is_bound: bool) -> None:
    outer = Between()
    if is_bound:
        outer.add_workflows(asks=Asks())
    async with system.serve(outer=outer, **({} if is_bound else {"asks": Asks()})) as session:
        task_id = await session.run_nowait("outer")
        await seen_until(session, task_id, "Question")
        service = "outer" if is_bound else "asks"
        await session.send_event(service, task_id, HumanResponseEvent(response="well"))  # type: ignore[call-arg]  # events take any
        async for _ in session.follow(task_id):
            pass
        assert (await session.get_task_result(task_id)).value == ["well"]


@pytest.mark.shows("wait.slot")
async def test_a_run_that_rests_is_waiting_and_says_for_what(system: System) -> None:
    async with system.serve(asks=Asks(), slots=1) as session:
        task_id = await session.run_nowait("asks")
        await seen_until(session, task_id, "Question")
        other = await system.client.create_session()
        second = await other.run_nowait("asks")
        await seen_until(other, second, "Question")  # the only slot is free while the first one waits
        shown = await session.status(task_id)
        assert shown.status is TaskStatus.WAITING
        for each, waiting in ((session, task_id), (other, second)):
            await each.send_event("asks", waiting, HumanResponseEvent(response="well"))  # type: ignore[call-arg]  # events take any
            async for _ in each.follow(waiting):
                pass
            assert (await each.get_task_result(waiting)).value == "well"


async def test_a_run_that_rested_goes_on_by_itself_when_its_patience_ends(system: System) -> None:
    async with system.serve(patient=Patient(), double=Double(), slots=1) as session:
        task_id = await session.run_nowait("patient")
        await seen_until(session, task_id, "Question")
        await session.send_event("patient", task_id, HumanResponseEvent(response="well"))  # type: ignore[call-arg]  # events take any
        async for _ in session.follow(task_id):
            pass
        assert (await session.get_task_result(task_id)).value == [4, "well"]


async def test_an_event_that_the_workflow_does_not_take_is_refused(system: System) -> None:
    async with system.serve(asks=Asks()) as session:
        task_id = await session.run_nowait("asks")
        with pytest.raises(UnknownEvent, match="HumanResponseEvent"):
            await session.send_event("asks", task_id, Note(text="?"))
        await session.cancel(task_id)


@pytest.mark.parametrize("is_bound", [False, True])
async def test_cancelling_a_task_ends_what_its_steps_wait_for(system: System, *, is_bound: bool) -> None:
    outer, long = Outer(), Long()
    if is_bound:
        arriero.add_workflows(outer, double=long)
    async with system.serve(outer=outer, **({} if is_bound else {"double": long})) as session:
        task_id = await session.run_nowait("outer", value=1)
        await long.began.wait()
        await session.cancel(task_id)
        await asyncio.wait_for(long.ended.wait(), 5)
        with pytest.raises(TaskCancelled):
            async for _ in session.get_task_result_stream(task_id):
                pass


@pytest.mark.shows("deadline.children")
async def test_a_deadline_ends_the_children_too(system: System) -> None:
    long = Long()
    async with system.serve(outer=Outer(), double=long) as session:
        with pytest.raises(TaskTimedOut):
            await session.call("outer", {"value": 1}, deadline=1)
        await asyncio.wait_for(long.ended.wait(), 5)
