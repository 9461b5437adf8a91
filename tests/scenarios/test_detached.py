"""A service that was never registered: documented messages come in on its topic, and go out to the control plane's."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from arriero import (
    ActionTypes,
    AsyncLlamaDeployClient,
    BaseService,
    ControlPlaneConfig,
    ControlPlaneServer,
    FunctionService,
    QueueMessage,
    ServiceDefinition,
    SimpleMessageQueue,
    SimpleMessageQueueConfig,
    SimpleMessageQueueServer,
    SimpleOrchestrator,
    TaskResult,
    WorkflowService,
)
from arriero.core import rings
from arriero.message_queues.base import Subscription
from arriero.message_queues.simple import wire
from arriero.services import ServiceOptions
from arriero.types.errors import AlreadyInUse, InvalidInput
from arriero.types.serving import bind
from arriero.types.tasks import NewTask, TaskDefinition, TaskStatus, TaskStream
from tests.harness import answers, free_port
from tests.scenarios.flows import Counting, Failing, Greeting, Remembering
from tests.scenarios.system import Http, at_once, beside, control_plane

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
async def queue() -> AsyncIterator[SimpleMessageQueue]:
    async with SimpleMessageQueue() as queue:
        yield queue


@pytest.fixture
async def heard(queue: SimpleMessageQueue) -> AsyncIterator[Subscription]:
    """What is published to the control plane's topic."""
    subscription = await queue.subscribe("llama_deploy.control_plane", prefetch=100)
    yield subscription
    await subscription.aclose()


def new_task(service: str, task_id: str = "T", session_id: str | None = "S", **arguments: Any) -> QueueMessage:
    task = TaskDefinition(input=json.dumps(arguments), task_id=task_id, session_id=session_id, service_id=service)
    return QueueMessage(type=service, action=ActionTypes.NEW_TASK, data=task.model_dump())


async def next_message(heard: Subscription) -> QueueMessage:
    delivery = await anext(heard)
    await delivery.ack()
    return delivery.message


async def next_result(heard: Subscription) -> TaskResult:
    """The next result; events before it are left out."""
    message = await next_message(heard)
    while message.action is ActionTypes.TASK_STREAM:
        message = await next_message(heard)
    assert message.action is ActionTypes.COMPLETED_TASK
    assert message.type == "control_plane"
    return TaskResult.model_validate(message.data)


@pytest.mark.shows("run.index")
async def test_events_and_then_the_result_are_published_to_the_control_plane(
    queue: SimpleMessageQueue, heard: Subscription
) -> None:
    service = WorkflowService(Counting(), queue, service_name="counting")
    consume = await service.register_to_message_queue()
    async with beside(consume(), at_once()):
        await queue.publish(new_task("counting", upto=2), topic="llama_deploy.counting")
        messages = [await next_message(heard) for _ in range(4)]
    *events, result = messages
    assert {message.type for message in messages} == {"control_plane"}
    assert {message.publisher_id for message in messages} == {service.publisher_id}
    assert all(message.stats.publish_time for message in messages)
    assert [message.action for message in events] == [ActionTypes.TASK_STREAM] * 3
    expected = [{"number": 0, "note": "ñ"}, {"number": 1, "note": "ñ"}, {"result": {"upto": 2}}]
    streamed = [TaskStream.model_validate(message.data) for message in events]
    assert streamed == [
        TaskStream(task_id="T", session_id="S", data=data, index=index) for index, data in enumerate(expected)
    ]
    assert result.action is ActionTypes.COMPLETED_TASK
    ended = TaskResult.model_validate(result.data)
    assert (ended.task_id, ended.result, ended.history, ended.data) == ("T", '{"upto":2}', [], {})


async def test_process_message_runs_a_detached_task(queue: SimpleMessageQueue, heard: Subscription) -> None:
    service = WorkflowService(Greeting(), queue, service_name="greeting")
    consume = await service.register_to_message_queue()
    async with beside(consume(), at_once()):
        await service.process_message(new_task("greeting", name="Ada"))
        assert (await next_result(heard)).result == "hello Ada"


async def test_both_documented_forms_of_a_new_task_are_taken(queue: SimpleMessageQueue, heard: Subscription) -> None:
    service = WorkflowService(Greeting(), queue, service_name="greeting")
    consume = await service.register_to_message_queue()
    task = TaskDefinition(input='{"name": "Eve"}', task_id="U", session_id="S", service_id="greeting")
    wrapped = QueueMessage(type="greeting", action=ActionTypes.NEW_TASK, data=NewTask(task=task).model_dump())
    async with beside(consume(), at_once()):
        await queue.publish(new_task("greeting", name="Ada"), topic="llama_deploy.greeting")
        await queue.publish(wrapped, topic="llama_deploy.greeting")
        results = {result.task_id: result.result for result in [await next_result(heard) for _ in range(2)]}
    assert results == {"T": "hello Ada", "U": "hello Eve"}


async def test_a_failure_is_published_typed(queue: SimpleMessageQueue, heard: Subscription) -> None:
    service = WorkflowService(Failing(), queue, service_name="failing")
    consume = await service.register_to_message_queue()
    async with beside(consume(), at_once()):
        await queue.publish(new_task("failing", text="broken"), topic="llama_deploy.failing")
        result = await next_result(heard)
    assert (result.status, result.result) == (TaskStatus.FAILED, "broken")
    assert result.error is not None
    assert (result.error["type"], result.error["details"]["step"]) == ("LookupError", "explode")


async def test_a_task_that_comes_twice_is_answered_once(queue: SimpleMessageQueue, heard: Subscription) -> None:
    service = WorkflowService(Greeting(), queue, service_name="greeting")
    consume = await service.register_to_message_queue()
    async with beside(consume(), at_once()):
        for task_id in ("T", "T", "U"):
            await queue.publish(new_task("greeting", task_id, name="Ada"), topic="llama_deploy.greeting")
        results = [await next_result(heard) for _ in range(2)]
    assert sorted(result.task_id for result in results) == ["T", "U"]


async def test_sessions_keep_their_context(queue: SimpleMessageQueue, heard: Subscription) -> None:
    service = WorkflowService(Remembering(), queue, service_name="remembering")
    consume = await service.register_to_message_queue()
    async with beside(consume(), at_once()):
        for task_id, session in (("1", "A"), ("2", "B"), ("3", "A"), ("4", None)):
            await queue.publish(
                new_task("remembering", task_id, session, word=task_id), topic="llama_deploy.remembering"
            )
        results = {result.task_id: result.value for result in [await next_result(heard) for _ in range(4)]}
    assert results == {"1": ["1"], "2": ["2"], "3": ["1", "3"], "4": ["4"]}


async def test_never_more_tasks_run_than_the_service_takes_at_once(
    queue: SimpleMessageQueue, heard: Subscription
) -> None:
    running = most = 0
    full = asyncio.Event()

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        running -= 1

    service = FunctionService(work, queue, service_name="work", max_concurrent_tasks=3)
    consume = await service.register_to_message_queue()
    async with beside(consume(), at_once()):
        for number in range(12):
            await queue.publish(new_task("work", str(number), str(number)), topic="llama_deploy.work")
        results = [await next_result(heard) for _ in range(12)]
    assert {result.status for result in results} == {TaskStatus.COMPLETED}
    assert most == 3


async def test_a_message_that_is_no_task_is_dead_lettered_with_its_reason(
    queue: SimpleMessageQueue, heard: Subscription
) -> None:
    service = WorkflowService(Greeting(), queue, service_name="greeting")
    consume = await service.register_to_message_queue()
    topic = "llama_deploy.greeting"
    async with beside(consume(), at_once()):
        await queue.publish(QueueMessage(type="greeting", action=ActionTypes.NEW_TOOL_CALL, data={}), topic=topic)
        await queue.publish(QueueMessage(type="greeting", action=ActionTypes.NEW_TASK, data={}), topic=topic)
        await queue.publish(new_task("greeting", name="Ada"), topic=topic)
        assert (await next_result(heard)).result == "hello Ada"
        wrong_action, wrong_data = await queue.dead_letters(topic)
    assert "new_tool_call" in wrong_action.reason
    assert "input" in wrong_data.reason
    with pytest.raises(InvalidInput, match="new_task"):
        await service.process_message(QueueMessage(type="greeting", action=ActionTypes.COMPLETED_TASK))


async def test_with_raise_exceptions_a_detached_failure_is_published_and_then_raised(
    queue: SimpleMessageQueue, heard: Subscription
) -> None:
    service = WorkflowService(Failing(), queue, service_name="failing", raise_exceptions=True)
    consuming = asyncio.create_task((await service.register_to_message_queue())())
    await queue.publish(new_task("failing", text="broken"), topic="llama_deploy.failing")
    assert (await next_result(heard)).status is TaskStatus.FAILED
    with pytest.raises(Exception, match="broken") as raised:
        await consuming
    assert isinstance(raised.value, LookupError) or isinstance(raised.value.__cause__, LookupError)


async def test_what_is_not_answered_when_a_service_stops_goes_to_another_one(
    queue: SimpleMessageQueue, heard: Subscription
) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def stuck() -> str:
        begun.set()
        await never.wait()
        return "never"

    async def quick() -> str:
        return "quick"

    first = FunctionService(stuck, queue, service_name="work")
    first.options.drain = 0.1
    consume = await first.register_to_message_queue()
    async with beside(consume(), at_once()):
        await queue.publish(new_task("work"), topic="llama_deploy.work")
        await begun.wait()
    second = FunctionService(quick, queue, service_name="work")
    consume = await second.register_to_message_queue()
    async with beside(consume(), at_once()):
        result = await next_result(heard)
    assert (result.task_id, result.result) == ("T", "quick")


async def test_what_runs_when_a_service_stops_is_finished_and_answered(
    queue: SimpleMessageQueue, heard: Subscription
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        await go_on.wait()
        return "finished"

    service = FunctionService(slow, queue, service_name="slow")
    consuming = asyncio.create_task((await service.register_to_message_queue())())
    await queue.publish(new_task("slow"), topic="llama_deploy.slow")
    await begun.wait()
    consuming.cancel()
    go_on.set()
    assert (await next_result(heard)).result == "finished"
    await asyncio.wait({consuming})
    assert await queue.depth("llama_deploy.slow") == 0


async def test_a_paused_service_answers_when_it_goes_on(queue: SimpleMessageQueue, heard: Subscription) -> None:
    begun = asyncio.Event()
    service = FunctionService(begun.wait, queue, service_name="wait", running=False)
    begun.set()
    consume = await service.register_to_message_queue()
    async with beside(consume(), at_once()):
        await service.process_message(new_task("wait"))
        assert await service.home() == {**await service.home(), "running": "False", "num_outstanding_calls": "0"}
        service.running = True
        assert (await next_result(heard)).value is True


class Echo(BaseService):
    """A user's own kind."""

    async def process_message(self, message: QueueMessage) -> dict[str, Any]:
        return {"input": message.data["input"], "task_id": message.data["task_id"]}


async def test_a_service_of_ones_own_is_answered_for_by_its_topic_and_by_its_route(
    queue: SimpleMessageQueue, heard: Subscription
) -> None:
    port = free_port()
    service = Echo("echo", queue, ServiceOptions(host="127.0.0.1", port=port))
    consume = await service.register_to_message_queue()
    url = f"http://127.0.0.1:{port}"
    async with beside(service.launch_server(), answers(url, path="/health")), beside(consume(), at_once()):
        await queue.publish(new_task("echo", "T", word="x"), topic="llama_deploy.echo")
        assert (await next_result(heard)).value == {"input": '{"word": "x"}', "task_id": "T"}
        async with Http(url) as http:
            message = new_task("echo", "U", word="y").model_dump(mode="json")
            assert await http.post("/process_message", message) == (200, None)
        assert (await next_result(heard)).value == {"input": '{"word": "y"}', "task_id": "U"}


async def test_a_service_that_is_ended_while_it_starts_leaves_its_port_free(queue: SimpleMessageQueue) -> None:
    port = free_port()
    service = Echo("echo", queue, ServiceOptions(host="127.0.0.1", port=port))
    starting = asyncio.create_task(service.launch_server())
    await asyncio.sleep(0)
    with pytest.raises(AlreadyInUse):
        bind("127.0.0.1", port)
    starting.cancel()
    await asyncio.wait({starting})
    bind("127.0.0.1", port).close()


async def test_messages_at_the_same_moment_share_one_worker(queue: SimpleMessageQueue, heard: Subscription) -> None:
    service = WorkflowService(Greeting(), queue, service_name="greeting")
    consume = await service.register_to_message_queue()
    async with beside(consume(), at_once()):
        await asyncio.gather(
            *(service.process_message(new_task("greeting", str(number), name="Ada")) for number in range(10))
        )
        results = [await next_result(heard) for _ in range(10)]
    assert {result.task_id for result in results} == {str(number) for number in range(10)}


async def test_the_control_plane_takes_the_answers_of_a_detached_service(tmp_path: Path) -> None:
    """The documented system without a link: everything by messages."""
    async with control_plane(tmp_path) as plane, AsyncLlamaDeployClient(plane.config, timeout=20) as client:
        queue = plane.message_queue
        assert queue is not None
        service = WorkflowService(Counting(), queue, service_name="counting")
        await client.register_service(service.service_definition)
        consume = await service.register_to_message_queue()
        async with beside(consume(), at_once()):
            session = await client.create_session()
            task_id = await session.run_nowait("counting", upto=2)
            events = [event async for event in session.get_task_result_stream(task_id)]
            assert events == [{"number": 0, "note": "ñ"}, {"number": 1, "note": "ñ"}, {"result": {"upto": 2}}]
            assert json.loads(await session.run("counting", upto=1)) == {"upto": 1}


async def test_the_control_plane_sends_a_foreign_service_the_whole_task_in_its_own_name(tmp_path: Path) -> None:
    told: list[QueueMessage] = []

    def tell(message: QueueMessage) -> None:
        told.append(message)
        raise ValueError("a callback's own fault")

    queue = SimpleMessageQueue()
    config = ControlPlaneConfig(port=0, state_store_uri=f"sqlite:///{tmp_path}/state.db")
    plane = ControlPlaneServer(queue, SimpleOrchestrator(), tell, config=config)
    large = "x" * 300_000
    async with (
        beside(plane.launch_server(), plane.started.wait()),
        AsyncLlamaDeployClient(config, timeout=20) as client,
    ):
        await client.register_service(ServiceDefinition(service_name="foreign", description="It speaks messages."))
        subscription = await queue.subscribe("llama_deploy.foreign")
        for text in ("small", large):
            session = await client.create_session()
            task_id = await session.run_nowait("foreign", text=text)
            message = await next_message(subscription)
            assert (message.type, message.action) == ("foreign", ActionTypes.NEW_TASK)
            assert (message.publisher_id, message.data["task_id"]) == (plane.publisher_id, task_id)
            assert json.loads(message.data["input"]) == {"text": text}
            assert message.data["agent_id"] == message.data["service_id"] == "foreign"
            assert message.data["session_id"] == session.session_id
        await subscription.aclose()
    assert len(told) == 2


@pytest.mark.shows("down.queue")
async def test_a_foreign_service_gets_its_task_when_the_queue_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PATIENCE", 0.1)
    monkeypatch.setattr(rings, "FIRST_AGAIN", 0.1)
    queue_config = SimpleMessageQueueConfig(port=free_port())
    async with (
        SimpleMessageQueue(queue_config) as queue,
        control_plane(tmp_path, queue=queue) as plane,
        AsyncLlamaDeployClient(plane.config, timeout=20) as client,
    ):
        await client.register_service(ServiceDefinition(service_name="greeting", description="d"))
        session = await client.create_session()
        ids = [await session.run_nowait("greeting", name=str(number)) for number in range(3)]
        async with Http(plane.url) as http:
            path = f"/sessions/{session.session_id}/tasks/{ids[0]}/result"
            status, pending = await http.get(f"{path}?wait=0.3")
            assert (status, pending["reason"]) == (202, "no worker of service 'greeting' is connected")
            assert (await http.get("/ready"))[0] == 503
            async with SimpleMessageQueueServer(queue_config), SimpleMessageQueue(queue_config) as own:
                service = WorkflowService(Greeting(), own, service_name="greeting")
                consume = await service.register_to_message_queue()
                async with beside(consume(), at_once()):
                    for number, task_id in enumerate(ids):
                        path = f"/sessions/{session.session_id}/tasks/{task_id}/result"
                        assert (await http.get(f"{path}?wait=20"))[1]["result"] == f"hello {number}"


async def test_a_foreign_service_gets_its_tasks_again_when_control_plane_and_queue_were_lost(tmp_path: Path) -> None:
    ids = []
    for life in range(2):
        async with control_plane(tmp_path) as plane, AsyncLlamaDeployClient(plane.config, timeout=20) as client:
            if not life:
                await client.register_service(ServiceDefinition(service_name="greeting", description="d"))
                for number in range(5):
                    session = await client.create_session()
                    ids.append((session.session_id, await session.run_nowait("greeting", name=str(number))))
                continue
            queue = plane.message_queue
            assert queue is not None
            service = WorkflowService(Greeting(), queue, service_name="greeting")
            consume = await service.register_to_message_queue()
            async with beside(consume(), at_once()), Http(plane.url) as http:
                for number, (session_id, task_id) in enumerate(ids):
                    path = f"/sessions/{session_id}/tasks/{task_id}/result"
                    assert (await http.get(f"{path}?wait=20"))[1]["result"] == f"hello {number}"


async def test_a_detached_service_that_registers_works_for_its_control_plane_from_then_on(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane, AsyncLlamaDeployClient(plane.config, timeout=20) as client:
        queue = plane.message_queue
        assert queue is not None
        service = WorkflowService(Greeting(), queue, service_name="greeting")
        consume = await service.register_to_message_queue()
        async with beside(consume(), at_once()):
            await client.register_service(service.service_definition)
            session = await client.create_session()
            assert await session.run("greeting", name="Ada") == "hello Ada"
            await service.register_to_control_plane(plane.url)
            await service.ready.wait()
            assert await session.run("greeting", name="Eve") == "hello Eve"
