"""Workflows through the whole system: events, context, concurrency, results and failures."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.resource import Resource
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from arriero import AsyncLlamaDeployClient, ControlPlaneConfig, FunctionService, TransientError, WorkflowService
from arriero.types.errors import TaskFailed
from arriero.types.tasks import TaskStatus
from tests.scenarios.flows import Counting, Failing, Greeting, Nested, Progress, Remembering
from tests.scenarios.system import Http, at_work, control_plane

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class System:
    """A control plane, a client of it, and the services that a test asks for."""

    def __init__(self, plane: Any, client: AsyncLlamaDeployClient) -> None:
        self.plane = plane
        self.client = client

    def serve(self, served: Any, name: str, **settings: Any) -> Any:
        """The service at work, as a context manager."""
        kind = WorkflowService if isinstance(served, Workflow) else FunctionService
        return at_work(kind(served, self.plane.message_queue, service_name=name, **settings), self.plane.url)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with control_plane(tmp_path) as plane, AsyncLlamaDeployClient(plane.config, timeout=30) as client:
        yield System(plane, client)


# Events


class Ask(Event):
    question: str


class Answer(Event):
    text: str
    parts: list[int]


class Branching(Workflow):
    """Steps that run at once, and one that gathers what they gave."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Ask | None:
        await ctx.store.set("count", ev.count)
        for number in range(ev.count):
            ctx.send_event(Ask(question=str(number)))
        return None

    @step(num_workers=4)
    async def reply(self, ctx: Context, ev: Ask) -> Answer:
        ctx.write_event_to_stream(Progress(number=int(ev.question)))
        return Answer(text=ev.question, parts=[int(ev.question)] * 2)

    @step
    async def gather(self, ctx: Context, ev: Answer) -> StopEvent | None:
        answers = ctx.collect_events(ev, [Answer] * await ctx.store.get("count"))
        if answers is None:
            return None
        return StopEvent(result=sorted(part for answer in answers for part in answer.parts))


async def test_events_come_in_order_and_the_stop_event_last(system: System) -> None:
    async with system.serve(Counting(), "counting"):
        session = await system.client.create_session()
        task_id = await session.run_nowait("counting", upto=1000)
        events = [event async for event in session.get_task_result_stream(task_id)]
    assert [event.get("number") for event in events[:-1]] == list(range(1000))
    assert events[-1] == {"result": {"upto": 1000}}


async def test_steps_that_run_at_once_stream_and_are_gathered(system: System) -> None:
    async with system.serve(Branching(), "branching"):
        session = await system.client.create_session()
        task_id = await session.run_nowait("branching", count=8)
        *events, last = [event async for event in session.get_task_result_stream(task_id)]
    assert sorted(event["number"] for event in events) == list(range(8))
    assert last == {"result": sorted([*range(8), *range(8)])}


class Report(StopEvent):
    title: str
    pages: int


class Reporting(Workflow):
    @step
    async def report(self, ev: StartEvent) -> Report:
        return Report(title=ev.title, pages=3)


async def test_a_stop_event_of_ones_own_is_the_result_with_its_fields(system: System) -> None:
    async with system.serve(Reporting(), "reporting"):
        session = await system.client.create_session()
        task_id = await session.run_nowait("reporting", title="ñ")
        assert [event async for event in session.get_task_result_stream(task_id)] == [{"title": "ñ", "pages": 3}]
        result = await session.get_task_result(task_id)
    assert result is not None
    assert result.value == {"title": "ñ", "pages": 3}


# Context


@pytest.mark.shows("session.context")
async def test_context_is_carried_from_task_to_task_within_session_and_service_and_not_across(system: System) -> None:
    workflow = Remembering()
    async with system.serve(workflow, "one"), system.serve(workflow, "two"):
        a, b = await system.client.create_session(), await system.client.create_session()
        told = [(a, "one", "1"), (a, "one", "2"), (b, "one", "3"), (a, "two", "4"), (a, "one", "5"), (b, "one", "6")]
        given = [json.loads(await session.run(service, word=word)) for session, service, word in told]
    assert given == [["1"], ["1", "2"], ["3"], ["4"], ["1", "2", "5"], ["3", "6"]]


@pytest.mark.shows("session.order")
async def test_tasks_of_a_session_submitted_at_once_run_in_order_on_one_context(system: System) -> None:
    async with system.serve(Remembering(), "remembering", max_concurrent_tasks=8):
        session = await system.client.create_session()
        ids = [await session.run_nowait("remembering", word=str(number)) for number in range(12)]
        async with Http(system.plane.url) as http:
            path = f"/sessions/{session.session_id}/tasks/{ids[-1]}/result?wait=20"
            _, last = await http.get(path)
        assert last["value"] == [str(number) for number in range(12)]


class Settings(BaseModel):
    count: int = 0
    names: list[str] = []


class Typed(Workflow):
    """Keeps its state in a model."""

    @step
    async def go(self, ctx: Context[Settings], ev: StartEvent) -> StopEvent:
        async with ctx.store.edit_state() as state:
            state.count += 1
            state.names.append(ev.name)
        return StopEvent(result=[state.count, state.names])


async def test_a_typed_state_is_carried_too(system: System) -> None:
    async with system.serve(Typed(), "typed"):
        session = await system.client.create_session()
        await session.run("typed", name="a")
        assert json.loads(await session.run("typed", name="b")) == [2, ["a", "b"]]


class Breaking(Workflow):
    """Changes its context, and then fails when it is told to."""

    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        count = await ctx.store.get("count", default=0) + 1
        await ctx.store.set("count", count)
        if ev.get("fail"):
            raise ValueError("as it was told")
        return StopEvent(result=count)


@pytest.mark.shows("session.context")
async def test_a_task_that_fails_leaves_the_context_as_it_was(system: System) -> None:
    async with system.serve(Breaking(), "breaking"):
        session = await system.client.create_session()
        assert await session.run("breaking") == "1"
        with pytest.raises(TaskFailed, match="as it was told"):
            await session.run("breaking", fail=True)
        assert await session.run("breaking") == "2"


@pytest.mark.shows("session.context")
async def test_context_survives_the_restart_of_the_whole_system(tmp_path: Path) -> None:
    given = []
    for word in ("a", "b", "c"):
        async with (
            control_plane(tmp_path) as plane,
            AsyncLlamaDeployClient(plane.config, timeout=30) as client,
            System(plane, client).serve(Remembering(), "remembering"),
        ):
            session = await client.get_or_create_session("the same")
            given.append(json.loads(await session.run("remembering", word=word)))
    assert given == [["a"], ["a", "b"], ["a", "b", "c"]]


# Concurrency


class Together(Workflow):
    """Meets the others half way, so that all of them run at once, and gives back what is its own."""

    def __init__(self, meeting: asyncio.Barrier) -> None:
        super().__init__()
        self.meeting = meeting

    @step
    async def enter(self, ctx: Context, ev: StartEvent) -> Ask:
        await ctx.store.set("mine", ev.own)
        ctx.write_event_to_stream(Ask(question=ev.own))
        return Ask(question=ev.own)

    @step
    async def meet(self, ctx: Context, ev: Ask) -> StopEvent:
        await self.meeting.wait()
        return StopEvent(result=[ev.question, await ctx.store.get("mine")])


async def test_fifty_sessions_at_once_on_one_workflow_object_never_see_a_value_of_another(system: System) -> None:
    many = 50
    async with system.serve(Together(asyncio.Barrier(many)), "together", max_concurrent_tasks=many):
        sessions = await asyncio.gather(*(system.client.create_session() for _ in range(many)))

        async def one(number: int) -> tuple[list[Any], Any]:
            task_id = await sessions[number].run_nowait("together", own=f"value {number}")
            events = [event async for event in sessions[number].get_task_result_stream(task_id)]
            result = await sessions[number].get_task_result(task_id)
            assert result is not None
            return events, result.value

        outcomes = await asyncio.gather(*(one(number) for number in range(many)))
    for number, (events, value) in enumerate(outcomes):
        own = f"value {number}"
        assert value == [own, own]
        assert events == [{"question": own}, {"result": [own, own]}]


async def test_never_more_tasks_run_than_a_service_takes_at_once_and_all_its_slots_are_used(system: System) -> None:
    running, peaks = 0, []
    full, done = asyncio.Event(), asyncio.Semaphore(0)

    async def work() -> None:
        nonlocal running
        running += 1
        peaks.append(running)
        if running == 5:
            full.set()
        await done.acquire()
        running -= 1

    async with system.serve(work, "work", max_concurrent_tasks=5):
        sessions = await asyncio.gather(*(system.client.create_session() for _ in range(40)))
        runs = [asyncio.ensure_future(session.run("work")) for session in sessions]
        await full.wait()
        for _ in range(40):
            done.release()
            await asyncio.wait([run for run in runs if not run.done()], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*runs)
    assert len(peaks) == 40
    assert max(peaks) == 5


@pytest.mark.shows("session.parallel")
async def test_parallel_sessions_run_their_tasks_at_once_and_keep_nothing(system: System) -> None:
    meeting = asyncio.Barrier(4)
    async with (
        system.serve(Together(meeting), "together", session_concurrency="parallel"),
        system.serve(Remembering(), "remembering", session_concurrency="parallel"),
    ):
        session = await system.client.create_session()
        results = await asyncio.gather(*(session.run("together", own=str(number)) for number in range(4)))
        assert [json.loads(result) for result in results] == [[str(number)] * 2 for number in range(4)]
        for word in ("a", "b"):
            assert json.loads(await session.run("remembering", word=word)) == [word]


@pytest.mark.shows("claim.once")
async def test_two_workers_of_one_service_share_its_tasks_and_none_is_run_twice(system: System) -> None:
    ran: list[int] = []
    meeting = asyncio.Barrier(4)

    async def work(number: int) -> int:
        ran.append(number)
        await meeting.wait()
        return number

    async with (
        system.serve(work, "work", max_concurrent_tasks=2),
        system.serve(work, "work", max_concurrent_tasks=2),
    ):
        sessions = await asyncio.gather(*(system.client.create_session() for _ in range(40)))
        results = await asyncio.gather(*(session.run("work", number=n) for n, session in enumerate(sessions)))
    assert results == [str(number) for number in range(40)]
    assert sorted(ran) == list(range(40))


# Results


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text as it is", "text as it is"),
        ('"quoted"', '"quoted"'),
        ("", ""),
        (12, "12"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ([], "[]"),
        ({"a": [1, {"b": "ñ", "c": None}], "d": {}}, '{"a":[1,{"b":"ñ","c":null}],"d":{}}'),
        ("\U0001f999 \x00 \\ line\nbreak", "\U0001f999 \x00 \\ line\nbreak"),
    ],
)
async def test_a_result_comes_back_as_json_value_and_as_text(system: System, value: Any, text: str) -> None:
    async with system.serve(Nested(), "nested"):
        session = await system.client.create_session()
        assert await session.run("nested", value=value) == text
        [task] = await session.get_tasks()
        result = await session.get_task_result(task.task_id)
    assert result is not None
    assert (result.value, result.result, result.status) == (value, text, TaskStatus.COMPLETED)


class Unserializable(Workflow):
    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result={"inner": [object()]})


async def test_a_result_that_is_no_json_fails_the_task_and_says_where(system: System) -> None:
    async with system.serve(Unserializable(), "wrong"):
        session = await system.client.create_session()
        with pytest.raises(TaskFailed, match=r"inner.*object") as raised:
            await session.run("wrong")
    assert raised.value.error is not None
    assert raised.value.error.code == "not_json"


# Failures


async def test_a_step_that_raises_gives_type_message_and_step_and_is_not_repeated(system: System) -> None:
    async with system.serve(Failing(), "failing"):
        session = await system.client.create_session()
        with pytest.raises(TaskFailed, match="LookupError: no such thing") as raised:
            await session.run("failing")
        error = raised.value.error
        result = await session.get_task_result(raised.value.task_id)
    assert error is not None
    assert (error.type, error.message, error.details["step"]) == ("LookupError", "no such thing", "explode")
    assert result is not None
    assert (result.attempts, result.error["type"] if result.error else None) == (1, "LookupError")


async def test_wrong_arguments_name_the_fields_and_run_nothing(system: System) -> None:
    async with system.serve(Greeting(), "greeting"):
        session = await system.client.create_session()
        with pytest.raises(TaskFailed) as raised:
            await session.run("greeting", nam="Ada", times="many")
    message = str(raised.value)
    assert "name: is missing" in message
    assert "times: " in message
    assert "Valid arguments: name: str, times: int (optional)" in message
    assert raised.value.error is not None
    assert raised.value.error.details["event"] == "Greet"


@pytest.mark.parametrize("text", ["[]", "nothing", "", "1"])
async def test_an_input_that_is_no_object_fails_with_what_it_should_be(system: System, text: str) -> None:
    async with system.serve(Greeting(), "greeting"), Http(system.plane.url) as http:
        session = await system.client.create_session()
        body = {"input": text, "service_id": "greeting"}
        _, result = await http.post(f"/sessions/{session.session_id}/tasks?wait=20", body)
    assert (result["status"], result["error"]["code"]) == ("failed", "invalid_input")
    assert "a JSON object with the arguments of the run" in result["error"]["message"]


async def test_an_error_that_may_pass_is_tried_again_and_counted(system: System) -> None:
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise TransientError("not yet", retry_after=0.01)
        return "at last"

    async with system.serve(flaky, "flaky"):
        session = await system.client.create_session()
        task_id = await session.run_nowait("flaky")
        *_, last = [event async for event in session.get_task_result_stream(task_id)]
        result = await session.get_task_result(task_id)
    assert last == {"result": "at last"}
    assert result is not None
    assert (result.attempts, len(tries)) == (3, 3)


@pytest.mark.shows("retry.count")
async def test_an_error_that_does_not_pass_fails_when_the_retries_are_used_up(system: System) -> None:
    async def never() -> None:
        raise ConnectionError("down")

    async with system.serve(never, "never"):
        session = await system.client.create_session()
        with pytest.raises(TaskFailed, match="ConnectionError: down") as raised:
            await session.run("never")
        result = await session.get_task_result(raised.value.task_id)
    assert result is not None
    assert result.attempts == 3  # max_retries is 2


class Patient(Workflow):
    """Its step is tried again by the engine itself."""

    tries = 0

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def go(self, ev: StartEvent) -> StopEvent:
        self.tries += 1
        if self.tries < 3:
            raise ValueError("again")
        return StopEvent(result=self.tries)


async def test_the_retry_policy_of_a_step_holds(system: System) -> None:
    async with system.serve(Patient(), "patient"):
        session = await system.client.create_session()
        assert await session.run("patient") == "3"


class Endless(Workflow):
    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()


@pytest.mark.shows("deadline.workflow")
async def test_a_workflows_own_timeout_is_a_typed_end(system: System) -> None:
    async with system.serve(Endless(timeout=0.2), "endless"):
        session = await system.client.create_session()
        with pytest.raises(TaskFailed, match=r"TaskTimedOut.*0\.2 s.*`timeout`.*go") as raised:
            await session.run("endless")
    assert raised.value.error is not None
    assert raised.value.error.code == "task_timed_out"


class Prices:
    async def get(self) -> int:
        return 3


def prices() -> Prices:
    return Prices()


class Buying(Workflow):
    @step
    async def buy(self, ev: StartEvent, prices: Annotated[Prices, Resource(prices)]) -> StopEvent:
        return StopEvent(result=ev.count * await prices.get())


async def test_resources_are_given_to_steps(system: System) -> None:
    async with system.serve(Buying(), "buying"):
        session = await system.client.create_session()
        assert await session.run("buying", count=4) == "12"


@pytest.mark.shows("accept.worker-left")
async def test_a_task_waits_for_a_service_that_is_known_and_has_no_worker_now(system: System) -> None:
    session = await system.client.create_session()
    async with system.serve(Greeting(), "greeting"):
        await session.run("greeting", name="Ada")
    task_id = await session.run_nowait("greeting", name="Eve")
    assert await session.get_task_result(task_id) is None
    async with system.serve(Greeting(), "greeting"):
        *_, last = [event async for event in session.get_task_result_stream(task_id)]
    assert last == {"result": "hello Eve"}


async def test_another_topic_namespace_changes_nothing_for_users(tmp_path: Path) -> None:
    async with control_plane(tmp_path, topic_namespace="mine") as plane:
        config: ControlPlaneConfig = plane.config
        async with AsyncLlamaDeployClient(config, timeout=20) as client:
            service = WorkflowService(Greeting(), plane.message_queue, service_name="greeting")
            async with at_work(service, plane.url):
                assert service.get_topic("greeting") == "mine.greeting"
                session = await client.create_session()
                assert await session.run("greeting", name="Ada") == "hello Ada"
