"""People in the loop, through real processes: workflows that ask, answered by the route and by every client.

What happens to a run that waits when its worker is killed is in ``tests/crash/test_resuming.py``.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from arriero.types.errors import AlreadyAnswered, AlreadyEnded, UnknownEvent
from arriero.types.tasks import TaskStatus
from tests.harness import Core, Worker
from tests.scenarios.asking import HERE, Order, Reply
from tests.scenarios.faces import NAMES, Face, each, result
from tests.scenarios.flows import Progress
from tests.scenarios.gate import Gate, gate_here
from tests.scenarios.system import Http, task

#: Runs that wait are left at once, so that each answer has to find a run which nobody holds.
LEFT_AT_ONCE = {"WORKFLOW_SERVICE_LINGER": "0"}
#: The workflows import the gate, which is beside them in the tests.
ROOT = str(Path(__file__).parents[2])


def asking(core: Core, name: str, service: str, *, lingers: bool = True) -> Worker:
    env = {"PYTHONPATH": ROOT} | ({} if lingers else LEFT_AT_ONCE)
    return Worker(f"{HERE}:{name}", service=service, core=core, env=env)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(core: Core) -> AsyncIterator[Core]:
    """The core with these workflows, each in a process of its own; the runs of some are left as soon as they wait."""
    async with AsyncExitStack() as stack:
        for worker in (
            asking(core, "Shipping", "shipping", lingers=False),
            asking(core, "Shipping", "slow_shipping"),
            asking(core, "Twice", "twice", lingers=False),
            asking(core, "Patient", "patient", lingers=False),
            asking(core, "Between", "between"),
        ):
            await stack.enter_async_context(worker)
        yield core


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with gate_here() as gate:
        yield gate


@pytest.fixture(params=NAMES)
async def session(request: pytest.FixtureRequest, served: Core) -> AsyncIterator[Any]:
    """A session by each kind of client."""
    async with Face(request.param, served) as face:
        yield await face.create()


async def asked(session: Any, task_id: str, times: int = 1) -> None:
    """Wait until the task has asked so often."""
    async for entry in each(session.follow(task_id)):
        times -= entry.type == "Question"
        if not times:
            return
        assert not entry.is_end, entry


async def told(session: Any, task_id: str) -> tuple[list[str], Any]:
    """The types of the events of an ended task, and its result."""
    types = [entry.type async for entry in each(session.follow(task_id)) if entry.kind == "event"]
    return types, (await result(session.get_task_result(task_id))).value


# By every client


async def test_a_task_that_asks_waits_and_says_for_what_until_it_is_answered(session: Any) -> None:
    task_id = await result(session.run_nowait("slow_shipping"))
    await asked(session, task_id)
    shown = await result(session.status(task_id))
    assert (shown.status, shown.finished_at) == (TaskStatus.WAITING, None)
    assert shown.waits_for in (
        [{"answers": 1}],
        [{"events": ["HumanResponseEvent", "Reply"]}],
    )  # before, while it rests
    assert await result(session.get_task_result(task_id)) is None
    await result(session.send_event("slow_shipping", task_id, Reply(text="three")))
    assert await told(session, task_id) == (["Question", "Taken", "StopEvent"], "shipped three")
    ended = await result(session.status(task_id))
    assert (ended.status, ended.waits_for) == (TaskStatus.COMPLETED, [])


async def test_of_two_answers_the_second_is_refused_while_the_task_goes_on(session: Any, gate: Gate) -> None:
    task_id = await result(session.run_nowait("shipping", port=gate.port, behind=session.session_id))
    await asked(session, task_id)
    await result(session.send_event("shipping", task_id, Reply(text="three")))
    with pytest.raises(AlreadyAnswered, match="has its answer already"):
        await result(session.send_event("shipping", task_id, Reply(text="four")))
    await gate.open(session.session_id)
    assert await told(session, task_id) == (["Question", "Taken", "StopEvent"], "shipped three")
    with pytest.raises(AlreadyEnded, match="completed"):
        await result(session.send_event("shipping", task_id, Reply(text="five")))


@pytest.mark.shows("event.early")
async def test_an_answer_that_comes_before_its_question_waits_for_it(session: Any, gate: Gate) -> None:
    task_id = await result(session.run_nowait("shipping", port=gate.port, before=session.session_id))
    visitor = await gate.arrived(session.session_id)
    await result(session.send_event("shipping", task_id, Reply(text="three")))
    gate.let(visitor)
    assert await told(session, task_id) == (["Question", "Taken", "StopEvent"], "shipped three")


async def test_an_event_of_another_type_is_refused_with_those_that_are_taken(session: Any) -> None:
    task_id = await result(session.run_nowait("shipping"))
    with pytest.raises(UnknownEvent, match=r"takes no event .*Progress.*; it takes: .*HumanResponseEvent.*Reply"):
        await result(session.send_event("shipping", task_id, Progress(number=3)))
    await asked(session, task_id)
    await result(session.send_event("shipping", task_id, Reply(text="three")))
    assert (await told(session, task_id))[1] == "shipped three"


async def test_the_answer_to_a_child_is_sent_to_its_service_in_the_task_of_its_caller(session: Any) -> None:
    task_id = await result(session.run_nowait("between"))
    await asked(session, task_id)
    shown = await result(session.status(task_id))
    assert shown.status is TaskStatus.WAITING
    assert [waits["service"] for waits in shown.waits_for] == ["shipping"]
    await result(session.send_event("shipping", task_id, Reply(text="three")))
    assert (await told(session, task_id))[1] == ["shipped three"]


async def test_a_step_asks_one_question_after_the_other(session: Any) -> None:
    task_id = await result(session.run_nowait("twice"))
    for number, (of, text) in enumerate([("thing", "salt"), ("number", "three")], start=1):
        await asked(session, task_id, number)
        await result(session.send_event("twice", task_id, Order(of=of, text=text)))
    assert await told(session, task_id) == (["Question", "Question", "StopEvent"], ["salt", "three"])


# By the route


@pytest.fixture
async def http(served: Core) -> AsyncIterator[Http]:
    async with Http(served.url) as http:
        yield http


class Answering:
    """One task as those see it who speak HTTP."""

    def __init__(self, http: Http, session_id: str, task_id: str, service: str) -> None:
        self.http = http
        self.path = f"/sessions/{session_id}/tasks/{task_id}"
        self.service = service

    async def send(self, event: str = "asking.Reply", key: str | None = None, **fields: Any) -> tuple[int, Any]:
        """What the answer to this event is: the status, and the code of the error or None."""
        body = json.dumps({"qualified_name": event, "value": fields})
        headers = {"Idempotency-Key": key} if key is not None else {}
        path = f"{self.path}/send_event"
        status, told = await self.http.post(path, {"service_id": self.service, "event_obj_str": body}, headers=headers)
        return status, None if told is None else told["error"]["code"]

    async def asked(self) -> None:
        """It has asked."""
        async with self.http.stream(f"{self.path}/events") as response:
            async for line in response.content:
                if line.startswith(b"data: ") and json.loads(line[6:]).get("type") == "Question":
                    return
        raise AssertionError("it ended without a question")

    async def events(self) -> list[dict[str, Any]]:
        """The events up to the end of the task."""
        async with self.http.stream(f"{self.path}/result_stream") as response:
            return [json.loads(line) async for line in response.content]


async def begun(http: Http, service: str, **arguments: Any) -> Answering:
    _, session_id = await http.post("/sessions/create")
    path = f"/sessions/{session_id}/tasks"
    status, told = await http.post(path, task(service, json.dumps(arguments)))
    assert status == 200, told
    return Answering(http, session_id, told, service)


@pytest.mark.shows("event.once")
async def test_of_ten_answers_at_once_one_counts(http: Http, gate: Gate) -> None:
    asking = await begun(http, "shipping", port=gate.port, behind="ten")
    await asking.asked()
    answers = await asyncio.gather(*(asking.send(text=str(number)) for number in range(10)))
    assert sorted(answers, key=str) == [(200, None)] + 9 * [(409, "already_answered")]
    taken = str(answers.index((200, None)))
    await gate.open("ten")
    assert await asking.events() == [{"text": "how many?"}, {"text": taken}, {"result": f"shipped {taken}"}]


@pytest.mark.shows("event.once")
async def test_an_answer_repeated_under_its_key_is_one_answer(http: Http, gate: Gate) -> None:
    asking = await begun(http, "shipping", port=gate.port, behind="key")
    await asking.asked()
    repeats = await asyncio.gather(*(asking.send(key="mine", text="three") for _ in range(5)))
    assert repeats == 5 * [(200, None)]
    assert await asking.send(key="mine", text="four") == (409, "task_conflict")
    await gate.open("key")
    assert await asking.events() == [{"text": "how many?"}, {"text": "three"}, {"result": "shipped three"}]
    assert await asking.send(key="mine", text="three") == (200, None)  # it ended by then, and that was heard
    assert await asking.send(key="other", text="three") == (409, "already_ended")


@pytest.mark.shows("event.undeclared")
async def test_an_undeclared_type_is_refused_with_the_names_of_those_that_are_taken(http: Http) -> None:
    asking = await begun(http, "shipping")
    event = json.dumps({"qualified_name": "os.system", "value": {"command": "true"}})
    path = f"{asking.path}/send_event"
    status, told = await http.post(path, {"service_id": "shipping", "event_obj_str": event})
    assert (status, told["error"]["code"]) == (422, "unknown_event")
    assert "Reply" in told["error"]["details"]["accepts"]
    assert "StartEvent" not in told["error"]["details"]["accepts"]
    await asking.send(text="three")
    assert (await asking.events())[-1] == {"result": "shipped three"}


@pytest.mark.parametrize("name", ["Reply", "asking.Reply", "elsewhere.of.mine.Reply"])
async def test_an_event_is_known_by_its_class_wherever_that_lies(http: Http, name: str) -> None:
    asking = await begun(http, "shipping")
    assert await asking.send(name, text="three") == (200, None)
    assert (await asking.events())[-1] == {"result": "shipped three"}


async def test_what_is_not_there_is_named(http: Http) -> None:
    asking = await begun(http, "shipping")
    _, other = await http.post("/sessions/create")
    task_id = asking.path.rsplit("/", 1)[1]
    for session_id, task_named, service, expected in (
        ("nowhere", task_id, "shipping", (404, "unknown_session")),
        (other, task_id, "shipping", (404, "unknown_task")),
        (other, "nothing", "shipping", (404, "unknown_task")),
        (asking.path.split("/")[2], task_id, "nobody", (404, "unknown_service")),
        (asking.path.split("/")[2], task_id, "twice", (422, "invalid_input")),
    ):
        assert await Answering(http, session_id, task_named, service).send(text="three") == expected
    assert await asking.send(text="three") == (200, None)
    assert (await asking.events())[-1] == {"result": "shipped three"}


async def test_an_answer_that_does_not_fit_its_class_leaves_the_question_open(http: Http) -> None:
    asking = await begun(http, "shipping")
    await asking.asked()
    assert await asking.send(number=3) == (200, None)
    async with http.stream(f"{asking.path}/events") as response:
        async for line in response.content:
            if b"UnhandledEvent" in line:
                break
    assert await asking.send(text="three") == (200, None)
    assert (await asking.events())[-1] == {"result": "shipped three"}


async def test_a_wait_has_an_end_where_it_is_given_one(http: Http) -> None:
    impatient = await begun(http, "patient", timeout=0.3)
    assert (await impatient.events())[-1] == {"result": "nobody answered"}
    patient = await begun(http, "patient", timeout=None)
    await patient.asked()
    await patient.send(text="here I am")
    assert (await patient.events())[-1] == {"result": "here I am"}
    in_time = await begun(http, "patient", timeout=60)
    await in_time.asked()
    await in_time.send(text="in time")
    assert (await in_time.events())[-1] == {"result": "in time"}


async def test_the_base_class_of_answers_is_taken_where_it_is_waited_for(http: Http, served: Core) -> None:
    asking = await begun(http, "shipping")
    await asking.asked()
    assert (await asking.send("workflows.events.HumanResponseEvent", response="three"))[0] == 200
    status, told = await http.post(f"{asking.path}/cancel", {"reason": "its answer was of no use"})
    assert (status, told["status"]) == (200, "cancelled")


# Whoever is away


@pytest.mark.shows("event.early")
@pytest.mark.parametrize(("name", "answer"), [("Shipping", Reply(text="three")), ("Patient", Reply(text="three"))])
async def test_an_answer_to_a_task_that_nobody_has_begun_waits_with_it(served: Core, name: str, answer: Reply) -> None:
    async with served.client() as client:
        session = await client.create_session()
        async with asking(served, name, f"away_{name}"):
            pass
        task_id = await session.run_nowait(f"away_{name}", timeout=60)
        await session.send_event(f"away_{name}", task_id, answer)
        assert (await session.status(task_id)).status is TaskStatus.QUEUED
        async with asking(served, name, f"away_{name}"):
            types, value = await told(session, task_id)
    assert (types[0], types[-1], "three" in value) == ("Question", "StopEvent", True)


@pytest.mark.shows("event.stored")
async def test_a_question_outlives_the_core_that_asked_it() -> None:
    async with Core() as core, core.client(timeout=30) as client, asking(core, "Shipping", "shipping"):
        session = await client.create_session()
        task_id = await session.run_nowait("shipping")
        await asked(session, task_id)
        await core.restart()
        assert (await session.status(task_id)).status is TaskStatus.WAITING
        await session.send_event("shipping", task_id, Reply(text="three"))
        with pytest.raises((AlreadyAnswered, AlreadyEnded)):
            await session.send_event("shipping", task_id, Reply(text="four"))
        assert await told(session, task_id) == (["Question", "Taken", "StopEvent"], "shipped three")
