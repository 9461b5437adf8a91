"""The documented client and session client, with a core and workers in processes of their own."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from arriero import (
    AsyncLlamaDeployClient,
    AsyncSessionClient,
    ControlPlaneConfig,
    ServiceDefinition,
    SessionDefinition,
    TaskDefinition,
    TaskResult,
)
from arriero.types.errors import (
    ControlPlaneUnavailable,
    InvalidInput,
    NotJSON,
    TaskConflict,
    TaskFailed,
    UnknownService,
    UnknownSession,
    UnknownTask,
    WaitTimeout,
)
from arriero.types.tasks import TaskStatus
from tests.harness import free_port


@pytest.fixture
async def session(client: AsyncLlamaDeployClient) -> AsyncSessionClient:
    return await client.create_session()


async def end_of(stream: AsyncGenerator[Any, None]) -> None:
    async for _ in stream:
        pass


# The client


async def test_a_session_is_created_and_has_an_id(client: AsyncLlamaDeployClient) -> None:
    session = await client.create_session(poll_interval=0.1)
    assert isinstance(session, AsyncSessionClient)
    assert uuid.UUID(session.session_id)
    definition = await client.get_session_definition(session.session_id)
    assert definition == SessionDefinition(session_id=session.session_id, task_ids=[], state={})
    assert definition.current_task_id is None


async def test_sessions_are_listed(client: AsyncLlamaDeployClient) -> None:
    ids = {(await client.create_session()).session_id for _ in range(3)}
    listed = await client.list_sessions()
    assert all(isinstance(session, SessionDefinition) for session in listed)
    assert ids <= {session.session_id for session in listed}


async def test_an_existing_session_is_got_and_an_unknown_one_is_a_value_error(client: AsyncLlamaDeployClient) -> None:
    session = await client.create_session()
    assert (await client.get_session(session.session_id)).session_id == session.session_id
    with pytest.raises(UnknownSession, match="no-such-session"):
        await client.get_session("no-such-session")
    with pytest.raises(ValueError, match="no-such-session"):
        await client.get_session_definition("no-such-session")


async def test_get_or_create_keeps_the_id_that_was_asked_for(client: AsyncLlamaDeployClient) -> None:
    wanted = f"mine-{uuid.uuid4()}"
    first = await client.get_or_create_session(wanted)
    task_id = await first.run_nowait("greeting", name="Ada")
    again = await client.get_or_create_session(wanted)
    assert first.session_id == again.session_id == wanted
    assert [task.task_id for task in await again.get_tasks()] == [task_id]


async def test_a_deleted_session_is_gone_with_its_tasks(client: AsyncLlamaDeployClient) -> None:
    session = await client.create_session()
    task_id = await session.run_nowait("greeting", name="Ada")
    await client.delete_session(session.session_id)
    for call in (
        client.get_session(session.session_id),
        client.delete_session(session.session_id),
        session.run("greeting", name="Ada"),
        session.run_nowait("greeting", name="Ada"),
        session.create_task(TaskDefinition(input="{}", service_id="greeting")),
        session.get_tasks(),
        session.get_current_task(),
        session.get_task_result(task_id),
    ):
        with pytest.raises(UnknownSession, match=session.session_id):
            await call
    with pytest.raises(UnknownSession):
        await anext(session.get_task_result_stream(task_id))


async def test_services_are_registered_shown_listed_and_deregistered(client: AsyncLlamaDeployClient) -> None:
    name = f"by-hand-{uuid.uuid4()}"
    definition = ServiceDefinition(service_name=name, description="d", host="127.0.0.1", port=1)
    await client.register_service(definition)
    assert await client.get_service(name) == definition
    listed = {service.service_name: service for service in await client.list_services()}
    assert listed[name] == definition
    assert {"greeting", "counting", "failing", "double"} <= set(listed)
    await client.deregister_service(name)
    with pytest.raises(UnknownService, match=name):
        await client.get_service(name)
    with pytest.raises(UnknownService, match=name):
        await client.deregister_service(name)


async def test_a_workers_service_is_known_by_its_description_and_address(client: AsyncLlamaDeployClient) -> None:
    service = await client.get_service("greeting")
    assert service.description == "A service that wraps a llama-index workflow."
    assert (service.host, service.port is not None) == ("127.0.0.1", True)


# The session client


async def test_run_gives_the_result_as_text(session: AsyncSessionClient) -> None:
    result = await session.run("greeting", name="Ada", times=2)
    assert result == "hello Ada hello Ada"
    assert json.loads(await session.run("double", x=4, note="ñ")) == {"doubled": 8, "note": "ñ"}


async def test_run_nowait_gives_the_id_at_once_and_the_result_comes(session: AsyncSessionClient) -> None:
    task_id = await session.run_nowait("counting", upto=2)
    assert isinstance(task_id, str)
    events = [event async for event in session.get_task_result_stream(task_id)]
    assert events == [{"number": 0, "note": "ñ"}, {"number": 1, "note": "ñ"}, {"result": {"upto": 2}}]
    result = await session.get_task_result(task_id)
    assert isinstance(result, TaskResult)
    assert (result.task_id, result.result, result.history, result.data) == (task_id, '{"upto":2}', [], {})
    assert (result.value, result.status, result.error) == ({"upto": 2}, TaskStatus.COMPLETED, None)


async def test_a_task_is_created_from_its_definition(session: AsyncSessionClient) -> None:
    task = TaskDefinition(input=json.dumps({"name": "Ada"}), agent_id="greeting")  # type: ignore[call-arg]  # the older name of the service
    assert await session.create_task(task) == task.task_id
    assert task.session_id == session.session_id
    assert await session.create_task(task) == task.task_id
    [listed] = await session.get_tasks()
    assert (listed.task_id, listed.service_id, listed.agent_id) == (task.task_id, "greeting", "greeting")
    other = TaskDefinition(input="{}", service_id="greeting", task_id=task.task_id)
    with pytest.raises(TaskConflict, match=task.task_id):
        await session.create_task(other)


async def test_tasks_are_listed_in_order_and_the_current_one_is_the_last(session: AsyncSessionClient) -> None:
    assert await session.get_tasks() == []
    assert await session.get_current_task() is None
    ids = [await session.run_nowait("greeting", name=str(number)) for number in range(4)]
    assert [task.task_id for task in await session.get_tasks()] == ids
    current = await session.get_current_task()
    assert current is not None
    assert current.task_id == ids[-1]


async def test_a_result_that_is_not_there_yet_is_none(session: AsyncSessionClient) -> None:
    task_id = await session.run_nowait("counting", upto=20_000)
    assert await session.get_task_result(task_id) is None
    stream = session.get_task_result_stream(task_id)
    async with aclosing(stream):
        assert (await anext(stream))["number"] == 0


async def test_a_stream_that_is_left_early_lets_the_task_go_on(session: AsyncSessionClient) -> None:
    task_id = await session.run_nowait("counting", upto=300)
    stream = session.get_task_result_stream(task_id)
    async with aclosing(stream):
        assert [(await anext(stream))["number"] for _ in range(3)] == [0, 1, 2]
    numbers = [event.get("number") async for event in session.get_task_result_stream(task_id)]
    assert numbers == [*range(300), None]


@pytest.mark.shows("accept.raises")
async def test_a_failed_task_raises_with_type_message_and_step(session: AsyncSessionClient) -> None:
    with pytest.raises(TaskFailed, match="LookupError: broken") as raised:
        await session.run("failing", text="broken")
    assert raised.value.error is not None
    assert (raised.value.error.type, raised.value.error.message) == ("LookupError", "broken")
    assert raised.value.error.details["step"] == "explode"
    result = await session.get_task_result(raised.value.task_id)
    assert result is not None
    assert (result.status, result.result) == (TaskStatus.FAILED, "broken")


async def test_the_stream_of_a_failed_task_gives_its_events_and_then_raises(session: AsyncSessionClient) -> None:
    task_id = await session.run_nowait("failing", text="broken")
    stream = session.get_task_result_stream(task_id)
    assert await anext(stream) == {"number": 1, "note": ""}
    with pytest.raises(TaskFailed, match="broken"):
        await anext(stream)


async def test_wrong_arguments_fail_with_the_fields_that_are_wrong_and_those_that_are_valid(
    session: AsyncSessionClient,
) -> None:
    with pytest.raises(TaskFailed, match="name: is missing") as raised:
        await session.run("greeting", times="many")
    message = str(raised.value)
    assert "times: " in message
    assert "Valid arguments: name: str, times: int (optional)" in message
    with pytest.raises(TaskFailed, match=r"double\(x: int"):
        await session.run("double", y=1)


async def test_an_unknown_service_is_told_with_the_known_ones(session: AsyncSessionClient) -> None:
    with pytest.raises(UnknownService, match=r"'greting'.*greeting.*did you mean 'greeting'"):
        await session.run("greting", name="Ada")
    assert await session.get_tasks() == []


async def test_an_unknown_task_is_told(session: AsyncSessionClient) -> None:
    with pytest.raises(UnknownTask, match="nothing"):
        await session.get_task_result("nothing")
    with pytest.raises(UnknownTask, match="nothing"):
        await anext(session.get_task_result_stream("nothing"))


async def test_arguments_that_are_no_json_are_refused_before_anything_is_sent(session: AsyncSessionClient) -> None:
    with pytest.raises(NotJSON, match="object"):
        await session.run("greeting", name=object())
    assert await session.get_tasks() == []


@pytest.mark.shows("default.input")
async def test_an_input_of_eleven_mebibytes_is_refused_with_the_limit(session: AsyncSessionClient) -> None:
    with pytest.raises(InvalidInput, match="max_input"):
        await session.run("greeting", name="x" * (11 * 1024 * 1024))
    assert await session.get_tasks() == []


async def test_a_client_that_stops_waiting_says_so_and_the_task_goes_on(
    client: AsyncLlamaDeployClient, session: AsyncSessionClient
) -> None:
    hasty = AsyncSessionClient(client.control_plane_config, session.session_id, timeout=1.0)
    with pytest.raises(WaitTimeout) as raised:
        await hasty.run("counting", upto=1_000_000_000)
    assert isinstance(raised.value, TimeoutError)
    [task] = await session.get_tasks()
    assert task.status is TaskStatus.RUNNING
    async with aclosing(session.get_task_result_stream(task.task_id)) as stream:
        assert (await anext(stream))["number"] == 0
    await client.delete_session(session.session_id)
    await hasty.aclose()


async def test_a_deadline_ends_a_task_that_takes_longer(session: AsyncSessionClient) -> None:
    task = TaskDefinition(input='{"upto": 1000000000}', service_id="counting", deadline=0.5)
    await session.create_task(task)
    stream = session.get_task_result_stream(task.task_id)
    with pytest.raises(TimeoutError, match=r"0\.5 s"):
        await end_of(stream)
    result = await session.get_task_result(task.task_id)
    assert result is not None
    assert result.status is TaskStatus.TIMED_OUT


async def test_a_control_plane_that_is_not_there_is_named_with_the_way_to_start_it() -> None:
    async with AsyncLlamaDeployClient(ControlPlaneConfig(port=free_port()), timeout=0.3) as client:
        with pytest.raises(ControlPlaneUnavailable, match="python -m arriero core"):
            await client.create_session()


async def test_many_runs_share_one_client(client: AsyncLlamaDeployClient) -> None:
    sessions = await asyncio.gather(*(client.create_session() for _ in range(20)))
    runs = [session.run("greeting", name=f"{number}") for number, session in enumerate(sessions)]
    assert await asyncio.gather(*runs) == [f"hello {number}" for number in range(20)]


async def test_a_timeout_says_that_nobody_works_for_the_service(client: AsyncLlamaDeployClient) -> None:
    await client.register_service(ServiceDefinition(service_name="away", description="Nobody serves it."))
    session = await client.create_session()
    session = AsyncSessionClient(client.control_plane_config, session.session_id, timeout=0.3)
    with pytest.raises(WaitTimeout, match="no worker of service 'away' is connected"):
        await session.run("away")
