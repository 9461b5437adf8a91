"""The documented coroutine methods of ``ControlPlaneServer``, called in its own process."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arriero import (
    ControlPlaneServer,
    FunctionService,
    ServiceDefinition,
    SimpleMessageQueue,
    SimpleMessageQueueConfig,
    TaskDefinition,
    TaskResult,
)
from arriero.types import TaskStatus, TaskStream
from arriero.types.errors import InvalidInput, UnknownService, UnknownSession, UnknownTask
from tests.scenarios.flows import double
from tests.scenarios.system import at_work, control_plane

BYHAND = ServiceDefinition(service_name="by hand", description="Answers by messages.")


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlaneServer]:
    async with control_plane(tmp_path) as server:
        yield server


async def test_sessions_are_made_listed_changed_and_deleted(plane: ControlPlaneServer) -> None:
    session_id = await plane.create_session()
    await plane.update_session_state(session_id, {"a": 1, "b": 2})
    await plane.update_session_state(session_id, {"b": 3})
    assert await plane.get_session_state(session_id) == {"a": 1, "b": 3}
    session = await plane.get_session(session_id)
    assert (session.session_id, session.task_ids, session.state) == (session_id, [], {"a": 1, "b": 3})
    assert await plane.get_all_sessions() == {session_id: session}
    await plane.delete_session(session_id)
    with pytest.raises(UnknownSession):
        await plane.get_session(session_id)


async def test_services_are_registered_listed_and_forgotten(plane: ControlPlaneServer) -> None:
    await plane.register_service(BYHAND)
    assert await plane.get_all_services() == {"by hand": BYHAND}
    assert await plane.get_service("by hand") == BYHAND
    await plane.deregister_service("by hand")
    with pytest.raises(UnknownService):
        await plane.get_service("by hand")


async def test_a_task_is_added_done_and_shown(plane: ControlPlaneServer) -> None:
    session_id = await plane.create_session()
    assert await plane.get_current_task(session_id) is None
    task = TaskDefinition(input='{"x": 2}', service_id="double")
    async with at_work(FunctionService(double, plane.message_queue, service_name="double"), plane.url):
        assert await plane.add_task_to_session(session_id, task) == task.task_id
        assert task.session_id == session_id
        async with asyncio.timeout(20):
            await plane.core.tasks.wait(await plane.core.tasks.get(session_id, task.task_id), 20)
    result = await plane.get_task_result(task.task_id, session_id)
    assert result is not None
    assert (result.status, result.value["doubled"]) == (TaskStatus.COMPLETED, 4)
    shown = await plane.get_task(task.task_id)
    assert (shown.status, shown.service_id, shown.input) == (TaskStatus.COMPLETED, "double", task.input)
    assert await plane.get_session_tasks(session_id) == [shown]
    assert await plane.get_current_task(session_id) == shown


async def test_a_service_that_answers_by_messages_streams_and_completes(plane: ControlPlaneServer) -> None:
    await plane.register_service(BYHAND)
    session_id = await plane.create_session()
    sent = await plane.send_task_to_service(
        TaskDefinition(task_id="T", input="{}", session_id=session_id, service_id="by hand")
    )
    assert (sent.task_id, sent.status) == ("T", TaskStatus.QUEUED)
    assert await plane.get_task_result("T", session_id) is None
    await plane.add_stream_to_session(TaskStream(task_id="T", session_id=session_id, data={"n": 1}, index=0))
    await plane.handle_service_completion(TaskResult(task_id="T", result="done"))
    result = await plane.get_task_result("T", session_id)
    assert result is not None
    assert result.result == "done"


async def test_a_task_without_a_session_or_of_another_one_is_refused(plane: ControlPlaneServer) -> None:
    await plane.register_service(BYHAND)
    session_id = await plane.create_session()
    task = TaskDefinition(input="{}", session_id="other", service_id="by hand")
    with pytest.raises(InvalidInput, match="has no session"):
        await plane.send_task_to_service(TaskDefinition(input="{}", service_id="by hand"))
    with pytest.raises(InvalidInput, match="session_id is 'other'"):
        await plane.add_task_to_session(session_id, task)
    with pytest.raises(UnknownTask):
        await plane.get_task("nothing")
    with pytest.raises(UnknownTask):
        await plane.get_task_result("nothing", session_id)


async def test_the_queue_is_shown_under_the_name_of_its_class(tmp_path: Path) -> None:
    queue = SimpleMessageQueue(SimpleMessageQueueConfig(port=8765, client_kwargs={"headers": {"Cookie": "secret"}}))
    async with control_plane(tmp_path, queue=queue) as plane:
        shown = await plane.get_message_queue_config()
    assert shown["SimpleMessageQueueConfig"]["port"] == 8765
    assert "secret" not in str(shown)
