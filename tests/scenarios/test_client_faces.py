"""Every method of the clients through real processes, in each of the four faces."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from arriero import EventDefinition, ServiceDefinition, TaskDefinition
from arriero.types.errors import (
    AlreadyAnswered,
    AlreadyEnded,
    NotJSON,
    TaskCancelled,
    TaskConflict,
    TaskFailed,
    TaskTimedOut,
    UnknownEvent,
    UnknownService,
    UnknownSession,
    UnknownTask,
    WaitTimeout,
)
from arriero.types.tasks import TaskStatus
from tests.harness import Core
from tests.scenarios.faces import NAMES, Face, each, result
from tests.scenarios.flows import Progress, Reply


@pytest.fixture(params=NAMES)
async def face(request: pytest.FixtureRequest, core: Core, workers: None) -> AsyncIterator[Face]:
    async with Face(request.param, core) as face:
        yield face


@pytest.fixture
async def session(face: Face) -> Any:
    return await face.create()


# Sessions and services


async def test_a_session_has_an_id_and_is_listed_and_found_again(face: Face) -> None:
    session = await face.create()
    assert uuid.UUID(session.session_id)
    assert session.id == session.session_id
    assert session.session_id in await face.session_ids()
    assert (await face.get(session.session_id)).session_id == session.session_id
    if not face.is_sdk:
        assert (await face.definition(session.session_id)).task_ids == []


async def test_a_session_that_is_not_there_is_unknown(face: Face) -> None:
    with pytest.raises(UnknownSession, match="no-such-session"):
        await face.get("no-such-session")


async def test_get_or_create_keeps_the_id_that_was_asked_for(face: Face) -> None:
    wanted = f"mine-{uuid.uuid4()}"
    first = await face.get_or_create(wanted)
    task_id = await result(first.run_nowait("greeting", name="Ada"))
    again = await face.get_or_create(wanted)
    assert first.session_id == again.session_id == wanted
    assert [task.task_id for task in await result(again.get_tasks())] == [task_id]


async def test_a_deleted_session_is_gone(face: Face, session: Any) -> None:
    await result(session.run("greeting", name="Ada"))
    await face.delete(session.session_id)
    assert session.session_id not in await face.session_ids()
    with pytest.raises(UnknownSession):
        await result(session.get_tasks())


async def test_a_service_is_registered_found_listed_and_deregistered(face: Face) -> None:
    name = f"by-hand-{uuid.uuid4()}"
    await face.register(ServiceDefinition(service_name=name, description="d"))
    found = await face.service(name)
    assert (found.service_name, found.description) == (name, "d")
    assert {name, "greeting"} <= set(await face.service_names())
    await face.deregister(name)
    assert name not in await face.service_names()
    with pytest.raises(UnknownService, match=name):
        await face.service(name)


# Running a service


async def test_run_gives_text_and_call_gives_the_value(session: Any) -> None:
    assert await result(session.run("greeting", name="Ada", times=2)) == "hello Ada hello Ada"
    assert json.loads(await result(session.run("double", x=4))) == {"doubled": 8, "note": ""}
    assert await result(session.call("double", {"x": 4, "note": "ñ"})) == {"doubled": 8, "note": "ñ"}
    assert await result(session.call("greeting", {"name": "Ada"})) == "hello Ada"


async def test_a_call_repeated_under_its_key_is_the_same_task(session: Any) -> None:
    for _ in range(2):
        assert await result(session.call("double", {"x": 4}, idempotency_key="once")) == {"doubled": 8, "note": ""}
    assert len(await result(session.get_tasks())) == 1
    with pytest.raises(TaskConflict):
        await result(session.call("double", {"x": 5}, idempotency_key="once"))


async def test_a_call_stops_waiting_after_its_timeout_and_its_task_ends_at_its_deadline(session: Any) -> None:
    with pytest.raises(WaitTimeout, match=r"0\.3 s"):
        await result(session.call("counting", {"upto": 10**9}, timeout=0.3, deadline=1.0))
    [task] = await result(session.get_tasks())
    assert task.deadline == 1.0
    with pytest.raises(TaskTimedOut, match=r"deadline of 1 s; it is set by `deadline`"):
        async for _ in each(session.get_task_result_stream(task.task_id)):
            pass
    assert (await result(session.status(task.task_id))).status is TaskStatus.TIMED_OUT


async def test_a_task_that_fails_raises_what_its_handler_raised(session: Any) -> None:
    for running in (session.run, session.run_nowait):
        with pytest.raises(UnknownService, match="greeting"):
            await result(running("greting"))
    with pytest.raises(TaskFailed, match="LookupError: broken"):
        await result(session.run("failing", text="broken"))
    with pytest.raises(TaskFailed, match="LookupError: broken"):
        await result(session.call("failing", {"text": "broken"}))
    with pytest.raises(NotJSON):
        await result(session.call("greeting", {"name": object()}))


# Tasks


async def test_tasks_are_created_listed_and_looked_at(session: Any) -> None:
    assert await result(session.get_current_task()) is None
    task = TaskDefinition(input='{"name": "Ada"}', service_id="greeting")
    assert await result(session.create_task(task)) == task.task_id
    assert task.session_id == session.session_id
    keyed = [
        await result(session.create_task(TaskDefinition(input="{}", service_id="double"), idempotency_key="k"))
        for _ in range(2)
    ]
    assert keyed[0] == keyed[1]
    assert [each.task_id for each in await result(session.get_tasks())] == [task.task_id, keyed[0]]
    assert (await result(session.get_current_task())).task_id == keyed[0]


async def test_events_come_as_they_are_documented_and_the_result_after_them(session: Any) -> None:
    task_id = await result(session.run_nowait("counting", upto=2))
    events = [event async for event in each(session.get_task_result_stream(task_id))]
    assert events == [{"number": 0, "note": "ñ"}, {"number": 1, "note": "ñ"}, {"result": {"upto": 2}}]
    ended = await result(session.get_task_result(task_id))
    assert (ended.task_id, ended.value, ended.result) == (task_id, {"upto": 2}, '{"upto":2}')
    task = await result(session.status(task_id))
    assert (task.task_id, task.status, task.attempts) == (task_id, TaskStatus.COMPLETED, 1)
    with pytest.raises(UnknownTask):
        await result(session.status("nothing"))


async def test_following_tells_everything_and_goes_on_behind_any_entry(session: Any) -> None:
    task_id = await result(session.run_nowait("counting", upto=3))
    entries = [entry async for entry in each(session.follow(task_id))]
    assert [(entry.kind, entry.type) for entry in entries] == [
        *[("event", "Progress")] * 3,
        ("event", "StopEvent"),
        ("end", ""),
    ]
    assert [entry.data for entry in entries[:3]] == [{"number": number, "note": "ñ"} for number in range(3)]
    assert (entries[-1].is_end, entries[-1].status, entries[-1].error) == (True, TaskStatus.COMPLETED, None)
    for number, entry in enumerate(entries):
        assert [each async for each in each(session.follow(task_id, after=entry.id))] == entries[number + 1 :]


async def test_following_a_task_that_fails_ends_with_its_error(session: Any) -> None:
    task_id = await result(session.run_nowait("failing", text="broken"))
    entries = [entry async for entry in each(session.follow(task_id))]
    assert [entry.kind for entry in entries] == ["event", "end"]
    assert (entries[-1].status, entries[-1].error.message) == (TaskStatus.FAILED, "broken")


# Events


async def asked(session: Any) -> str:
    """A task that has asked its question and waits."""
    task_id: str = await result(session.run_nowait("asking"))
    async for entry in each(session.follow(task_id)):
        assert (entry.type, entry.data) == ("Question", {"text": "which colour?"})
        return task_id
    raise AssertionError("the stream has ended before the question")


async def test_an_answer_is_sent_into_the_task_that_asks(session: Any) -> None:
    task_id = await asked(session)
    with pytest.raises(UnknownEvent, match="Reply"):
        await result(session.send_event("asking", task_id, Progress(number=1)))
    assert await result(session.send_event("asking", task_id, Reply(text="blue"))) is None
    events = [event async for event in each(session.get_task_result_stream(task_id))]
    assert events == [{"text": "which colour?"}, {"result": "it is blue"}]
    assert (await result(session.get_task_result(task_id))).value == "it is blue"
    with pytest.raises((AlreadyAnswered, AlreadyEnded)):
        await result(session.send_event("asking", task_id, Reply(text="red")))
    with pytest.raises(UnknownTask):
        await result(session.send_event("asking", "nothing", Reply(text="red")))


async def test_an_event_may_be_given_in_its_documented_form(session: Any) -> None:
    shape = {"__is_pydantic": True, "value": {"text": "blue"}, "qualified_name": "flows.Reply"}
    first = await asked(session)
    await result(session.send_event("asking", first, shape))
    second = await asked(session)
    definition = EventDefinition(service_id="asking", event_obj_str=json.dumps(shape))
    await result(session.send_event_def(second, definition))
    for task_id in (first, second):
        ended = [entry async for entry in each(session.follow(task_id))][-1]
        assert (ended.kind, ended.status) == ("end", TaskStatus.COMPLETED)


async def test_an_event_repeated_under_its_key_is_one_event(session: Any) -> None:
    task_id = await asked(session)
    for _ in range(2):
        await result(session.send_event("asking", task_id, Reply(text="blue"), idempotency_key="once"))
    entries = [entry async for entry in each(session.follow(task_id))]
    assert [entry.type for entry in entries if entry.kind == "event"] == ["Question", "StopEvent"]


# Cancelling


async def test_a_cancelled_task_ends_with_the_reason(session: Any) -> None:
    task_id = await result(session.run_nowait("counting", upto=10**9))
    cancelled = await result(session.cancel(task_id, reason="nobody waits for it"))
    assert (cancelled.task_id, cancelled.status) == (task_id, TaskStatus.CANCELLED)
    ended = await result(session.get_task_result(task_id))
    assert ended.status is TaskStatus.CANCELLED
    assert "nobody waits for it" in ended.result
    with pytest.raises(TaskCancelled, match="nobody waits for it"):
        async for _ in each(session.get_task_result_stream(task_id)):
            pass


async def test_cancelling_what_has_ended_changes_nothing(session: Any) -> None:
    await result(session.run("greeting", name="Ada"))
    task = await result(session.get_current_task())
    assert (await result(session.cancel(task.task_id))).status is TaskStatus.COMPLETED
    stopped = await result(session.run_nowait("counting", upto=10**9))
    first = await result(session.cancel(stopped, reason="first"))
    second = await result(session.cancel(stopped, reason="second"))
    assert first == second
    with pytest.raises(UnknownTask):
        await result(session.cancel("nothing"))


# State


async def test_the_state_of_a_session_is_merged_key_by_key(session: Any) -> None:
    assert await result(session.get_state()) == {}
    await result(session.update_state({"a": 1, "b": [None]}))
    await result(session.update_state({"b": "two"}))
    assert await result(session.get_state()) == {"a": 1, "b": "two"}
