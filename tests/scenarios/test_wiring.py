"""The documented low-level wiring: queue, control plane and services put together by hand."""

import asyncio
import contextlib
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
    SimpleOrchestrator,
    SimpleOrchestratorConfig,
    TaskResult,
    WorkflowService,
    WorkflowServiceConfig,
)
from arriero.message_queues import CallableMessageConsumer, RemoteMessageConsumer
from arriero.services import ServiceOptions
from arriero.types.errors import ConfigurationError, TaskFailed, UnknownService
from arriero.types.serving import AsgiServer, bind
from tests.harness import Core, answers, free_port
from tests.scenarios import shapes
from tests.scenarios.flows import Counting, Failing, Greeting, Remembering, double
from tests.scenarios.shapes import has_shape, refused
from tests.scenarios.system import Http, at_once, at_work, beside, control_plane, served
from tests.scenarios.system import task as body_of

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlaneServer]:
    async with control_plane(tmp_path) as server:
        yield server


@pytest.fixture
async def client(plane: ControlPlaneServer) -> AsyncIterator[AsyncLlamaDeployClient]:
    async with AsyncLlamaDeployClient(plane.config, timeout=20) as client:
        yield client


# The guide's own wiring


@pytest.mark.parametrize("style", ["single settings", "config"])
async def test_queue_control_plane_and_service_are_wired_as_documented(tmp_path: Path, style: str) -> None:
    queue_config = SimpleMessageQueueConfig(port=free_port())
    config = ControlPlaneConfig(port=free_port(), state_store_uri=f"sqlite:///{tmp_path}/state.db")
    service_config = WorkflowServiceConfig(host="127.0.0.1", port=free_port(), service_name="my_workflow")
    orchestrator = SimpleOrchestrator(**SimpleOrchestratorConfig().model_dump())

    message_queue = SimpleMessageQueue(host=queue_config.host, port=queue_config.port)
    queue_client = message_queue.client
    if style == "config":
        plane = ControlPlaneServer(queue_client, orchestrator, config=config)
        service = WorkflowService(Greeting(), queue_client, service_config)
    else:
        plane = ControlPlaneServer(queue_client, orchestrator, **config.model_dump())
        service = WorkflowService(Greeting(), queue_client, **service_config.model_dump())

    tasks = [asyncio.create_task(message_queue.launch_server()), asyncio.create_task(plane.launch_server())]
    tasks.append(asyncio.create_task((await plane.register_to_message_queue())()))
    tasks.append(asyncio.create_task(service.launch_server()))
    start_consuming = await service.register_to_message_queue()
    await service.register_to_control_plane(config.url)
    tasks.append(asyncio.create_task(start_consuming()))

    async with AsyncLlamaDeployClient(config) as client:
        session = await client.create_session()
        assert await session.run("my_workflow", name="Ada") == "hello Ada"
        assert await client.get_service("my_workflow") == service.service_definition
    async with Http(service_config.url) as http:
        status, home = await http.get("/")
        assert (status, home["service_name"], home["type"]) == (200, "my_workflow", "workflow_service")
    for task in reversed(tasks):
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    await queue_client.cleanup()


async def test_settings_are_given_once_as_a_config_or_one_by_one(tmp_path: Path) -> None:
    queue = SimpleMessageQueue()
    with pytest.raises(ConfigurationError, match="port"):
        ControlPlaneServer(queue, SimpleOrchestrator(), config=ControlPlaneConfig(), port=1)
    with pytest.raises(ConfigurationError, match="description"):
        WorkflowService(Greeting(), queue, WorkflowServiceConfig(), description="d")
    with pytest.raises(ValueError, match="prot"):
        ControlPlaneServer(queue, SimpleOrchestrator(), prot=1)
    with pytest.raises(ValueError, match="nam"):
        WorkflowService(Greeting(), queue, nam="x")


# A control plane


async def test_a_control_plane_shows_its_documented_attributes(plane: ControlPlaneServer) -> None:
    assert plane.publisher_id.startswith("ControlPlaneServer-")
    assert plane.app.title
    assert plane.get_topic("control_plane") == "llama_deploy.control_plane"
    config = await plane.register_service(ServiceDefinition(service_name="s", description="d"))
    assert (config.topic_namespace, config.state_store_uri) == ("llama_deploy", None)
    assert (await plane.get_service("s")).description == "d"
    await plane.deregister_service("s")
    with pytest.raises(UnknownService):
        await plane.get_service("s")


@pytest.mark.shows("message.taken")
async def test_a_control_plane_takes_documented_messages_from_its_topic(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    queue = plane.message_queue
    assert queue is not None
    session = await client.create_session()
    began = asyncio.Event()

    async def begin(x: int) -> int:
        began.set()
        return x

    async with at_work(FunctionService(begin, queue, service_name="begin"), plane.url):
        data = {"input": '{"x": 4}', "task_id": "T", "session_id": session.session_id, "agent_id": "begin"}
        message = QueueMessage(type="control_plane", action=ActionTypes.NEW_TASK, data=data)
        await queue.publish(message, topic=plane.get_topic("control_plane"))
        await began.wait()
        assert [event async for event in session.get_task_result_stream("T")] == [{"result": 4}]


@pytest.mark.parametrize("remote", [False, True])
async def test_a_queue_may_push_to_the_consumers_of_control_plane_and_service(tmp_path: Path, remote: bool) -> None:
    """The documented push model: the queue's own loop hands messages to consumers, here or over their routes."""
    seen: asyncio.Queue[str] = asyncio.Queue()
    queue = SimpleMessageQueue()
    config = ControlPlaneConfig(port=free_port(), state_store_uri=f"sqlite:///{tmp_path}/state.db")
    plane = ControlPlaneServer(queue, SimpleOrchestrator(final_message_type=None), config=config)
    service = FunctionService(seen.put, queue, service_name="see", port=free_port())
    consumers = {"T": plane.as_consumer(remote), "U": service.as_consumer(remote)}
    async with beside(plane.launch_server(), plane.started.wait()), served(service, plane.url):
        for task_id, consumer in consumers.items():
            await queue.register_consumer(consumer, topic=task_id)
        await queue.launch_local()
        async with AsyncLlamaDeployClient(config, timeout=20) as client:
            session = await client.create_session()
            for task_id, consumer in consumers.items():
                text = json.dumps({"item": task_id})
                data = {"input": text, "task_id": task_id, "session_id": session.session_id, "agent_id": "see"}
                message = QueueMessage(type=consumer.message_type, action=ActionTypes.NEW_TASK, data=data)
                await queue.publish(message, topic=task_id)
                assert await seen.get() == task_id
                assert [event async for event in session.get_task_result_stream(task_id)] == [{"result": None}]
        await queue.cleanup()
    for consumer in consumers.values():
        if isinstance(consumer, RemoteMessageConsumer):
            await consumer.aclose()


async def test_a_final_message_tells_whoever_listens_of_the_result(tmp_path: Path) -> None:
    orchestrator = SimpleOrchestrator(final_message_type="human")
    async with control_plane(tmp_path, orchestrator=orchestrator) as plane:
        queue = plane.message_queue
        assert queue is not None
        heard: asyncio.Queue[QueueMessage] = asyncio.Queue()
        consumer = CallableMessageConsumer(message_type="human", handler=heard.put_nowait)
        consume = await queue.register_consumer(consumer, topic=plane.get_topic("human"))
        async with (
            at_work(FunctionService(double, queue, service_name="double"), plane.url),
            beside(consume(), at_once()),
            AsyncLlamaDeployClient(plane.config) as client,
        ):
            session = await client.create_session()
            task_id = await session.run_nowait("double", x=2)
            message = await heard.get()
        assert (message.type, message.action) == ("human", ActionTypes.COMPLETED_TASK)
        result = TaskResult.model_validate(message.data)
        assert (result.task_id, result.value) == (task_id, {"doubled": 4, "note": ""})


async def test_internal_addresses_are_bound_and_the_public_ones_are_told(tmp_path: Path) -> None:
    here, there = free_port(), free_port()
    public = {"host": "plane.example", "port": 80, "internal_host": "127.0.0.1", "internal_port": here}
    config = ControlPlaneConfig(state_store_uri=f"sqlite:///{tmp_path}/state.db", **public)
    plane = ControlPlaneServer(SimpleMessageQueue(), SimpleOrchestrator(), config=config)
    settings = {"host": "service.example", "port": 8002, "internal_host": "127.0.0.1", "internal_port": there}
    service = WorkflowService(Greeting(), plane.message_queue, service_name="greeting", **settings)
    async with beside(plane.launch_server(), plane.started.wait()), Http(f"http://127.0.0.1:{here}") as http:
        await service.register_to_control_plane(http.url)
        async with beside(service.launch_server(), answers(f"http://127.0.0.1:{there}")):
            _, known = await http.get("/services/greeting")
            _, session = await http.post("/sessions/create")
            _, result = await http.post(f"/sessions/{session}/tasks?wait=20", body_of("greeting", '{"name": "Ada"}'))
    assert plane.url == "http://plane.example:80"
    assert (known["host"], known["port"]) == ("service.example", 8002)
    assert result["result"] == "hello Ada"


async def test_the_application_of_a_control_plane_may_be_served_by_a_server_of_ones_own(tmp_path: Path) -> None:
    config = ControlPlaneConfig(state_store_uri=f"sqlite:///{tmp_path}/state.db")
    plane = ControlPlaneServer(SimpleMessageQueue(), SimpleOrchestrator(final_message_type=None), config=config)
    service = WorkflowService(Greeting(), plane.message_queue, service_name="greeting")
    async with (
        plane,
        AsgiServer(plane.app, bind("127.0.0.1", 0)) as server,
        at_work(service, server.url),
        Http(server.url) as http,
    ):
        _, session = await http.post("/sessions/create")
        _, result = await http.post(f"/sessions/{session}/tasks?wait=20", body_of("greeting", '{"name": "Ada"}'))
        assert result["result"] == "hello Ada"
        assert (await http.get("/ready"))[0] == 200


# A service


async def test_a_workflow_service_shows_its_documented_attributes() -> None:
    workflow, queue = Greeting(), SimpleMessageQueue()
    settings = {"host": "127.0.0.1", "port": 8002, "service_name": "greeting", "description": "It greets."}
    service = WorkflowService(workflow, queue, **settings)
    assert (service.workflow, service.message_queue, service.service_name) == (workflow, queue, "greeting")
    assert service.config == WorkflowServiceConfig(**settings)
    expected = ServiceDefinition(service_name="greeting", description="It greets.", host="127.0.0.1", port=8002)
    assert service.service_definition == expected
    assert service.tool_name == "greeting-as-tool"
    assert service.publisher_id.startswith("WorkflowService-")
    assert service.get_topic("greeting") == "llama_deploy.greeting"
    assert service.running
    home = has_shape(await service.home(), shapes.SERVICE_HOME)
    assert home == {
        "service_name": "greeting",
        "description": "It greets.",
        "running": "True",
        "step_interval": "0.1",
        "num_outstanding_calls": "0",
        "type": "workflow_service",
    }


async def test_a_service_is_a_consumer_here_or_by_its_address() -> None:
    service = WorkflowService(Greeting(), SimpleMessageQueue(), service_name="greeting", port=8002)
    here, remote = service.as_consumer(), service.as_consumer(remote=True)
    assert isinstance(here, CallableMessageConsumer)
    assert isinstance(remote, RemoteMessageConsumer)
    assert here.message_type == remote.message_type == "greeting"
    assert here.id_ == remote.id_ == service.publisher_id
    assert remote.url == "http://127.0.0.1:8002/process_message"
    await remote.aclose()


async def test_launch_local_works_in_a_task(plane: ControlPlaneServer, client: AsyncLlamaDeployClient) -> None:
    service = WorkflowService(Greeting(), plane.message_queue, service_name="greeting")
    await service.register_to_control_plane(plane.url)
    task = await service.launch_local()
    session = await client.create_session()
    assert await session.run("greeting", name="Ada") == "hello Ada"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_several_ways_to_run_a_service_share_one_worker(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    running = most = 0
    never = asyncio.Event()

    async def one_at_a_time() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):  # in which a second worker would begin another one
                await never.wait()
        running -= 1

    service = FunctionService(one_at_a_time, plane.message_queue, service_name="one", max_concurrent_tasks=1)
    await service.register_to_control_plane(plane.url)
    consume = await service.register_to_message_queue()
    async with beside(service.launch_server(), service.ready.wait()), beside(consume(), at_once()):
        local = await service.launch_local()
        sessions = await asyncio.gather(*(client.create_session() for _ in range(6)))
        await asyncio.gather(*(session.run("one") for session in sessions))
        local.cancel()
        await asyncio.wait({local})
        await sessions[0].run("one")
    assert most == 1


async def test_a_paused_service_takes_nothing_until_it_goes_on(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    service = WorkflowService(Greeting(), plane.message_queue, service_name="greeting", running=False)
    async with served(service, plane.url) as url, Http(url) as http:
        assert (await http.get("/"))[1]["running"] == "False"
        session = await client.create_session()
        task_id = await session.run_nowait("greeting", name="Ada")
        async with Http(plane.url) as at_plane:
            path = f"/sessions/{session.session_id}/tasks/{task_id}/result"
            pending = {"task_id": task_id, "status": "queued", "waits_for": []}
            assert await at_plane.get(f"{path}?wait=0.3") == (202, pending)
            service.running = True
            assert (await at_plane.get(f"{path}?wait=20"))[1]["result"] == "hello Ada"
            service.running = False
            task_id = await session.run_nowait("greeting", name="Eve")
            path = f"/sessions/{session.session_id}/tasks/{task_id}/result"
            pending = {"task_id": task_id, "status": "queued", "waits_for": []}
            assert await at_plane.get(f"{path}?wait=0.3") == (202, pending)
            service.running = True
            assert (await at_plane.get(f"{path}?wait=20"))[1]["result"] == "hello Eve"


async def test_a_deregistered_service_is_unknown_and_may_register_again(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    service = WorkflowService(Greeting(), plane.message_queue, service_name="greeting")
    async with at_work(service, plane.url):
        await service.deregister_from_control_plane()
        with pytest.raises(UnknownService):
            await client.get_service("greeting")
        await service.register_to_control_plane(plane.url)
        session = await client.create_session()
        assert await session.run("greeting", name="Ada") == "hello Ada"
        await service.deregister_from_control_plane(plane.url)
        with pytest.raises(UnknownService):
            await session.run("greeting", name="Ada")


async def test_a_service_that_never_registered_cannot_deregister() -> None:
    service = WorkflowService(Greeting(), SimpleMessageQueue(), service_name="greeting")
    with pytest.raises(ValueError, match="register_to_control_plane"):
        await service.deregister_from_control_plane()


async def test_deregistering_from_the_queue_finishes_what_runs_and_takes_nothing_more(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    entered, opened = asyncio.Event(), asyncio.Event()

    async def gate() -> str:
        entered.set()
        await opened.wait()
        return "through"

    service = FunctionService(gate, plane.message_queue, service_name="gate")
    await service.register_to_control_plane(plane.url)
    consume = await service.register_to_message_queue()
    consuming = asyncio.create_task(consume())
    session = await client.create_session()
    running = asyncio.ensure_future(session.run("gate"))
    await entered.wait()
    leaving = asyncio.ensure_future(service.deregister_from_message_queue())
    opened.set()
    assert await running == "through"
    await leaving
    await asyncio.wait({consuming})
    task_id = await session.run_nowait("gate")
    async with Http(plane.url) as http:
        answer = await http.get(f"/sessions/{session.session_id}/tasks/{task_id}/result?wait=0.3")
    assert (answer[0], answer[1]["status"]) == (202, "queued")


async def test_session_state_is_read_and_merged_by_a_service(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    service = WorkflowService(Greeting(), plane.message_queue, service_name="greeting")
    assert await service.get_session_state("anything") is None
    await service.update_session_state("anything", {"a": 1})  # without a control plane there is nobody to tell
    async with at_work(service, plane.url):
        session = await client.create_session()
        assert await service.get_session_state(session.session_id) == {}
        await service.update_session_state(session.session_id, {"a": 1, "b": {"c": 2}})
        await service.update_session_state(session.session_id, {"b": 3})
        assert await service.get_session_state(session.session_id) == {"a": 1, "b": 3}
        assert (await client.get_session_definition(session.session_id)).state == {"a": 1, "b": 3}
        assert await service.get_session_state("no such session") is None


async def test_process_message_of_a_registered_service_submits_the_task_once(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    service = WorkflowService(Remembering(), plane.message_queue, service_name="remembering")
    session = await client.create_session()
    data = {"input": '{"word": "x"}', "task_id": "T", "session_id": session.session_id, "agent_id": "remembering"}
    message = {"type": "remembering", "action": "new_task", "data": data}
    async with served(service, plane.url) as url, Http(url) as http:
        for _ in range(3):
            assert await http.post("/process_message", message) == (200, None)
        await service.process_message(QueueMessage.model_validate(message))
        assert await session.run("remembering", word="y") == '["x","y"]'
        assert [task.task_id for task in await session.get_tasks()].count("T") == 1
        wrong = {**message, "action": "completed_task"}
        refused(await http.post("/process_message", wrong), 422, "invalid_input", "new_task")


async def test_the_routes_of_a_service_tell_what_it_is_and_whether_it_works(plane: ControlPlaneServer) -> None:
    settings = WorkflowServiceConfig(service_name="counting", description="It counts.", port=free_port())
    service = WorkflowService(Counting(), plane.message_queue, settings)
    async with beside(service.launch_server(), listening(settings)), Http(settings.url) as http:
        assert await http.get("/health") == (200, {"status": "ok"})
        assert (await http.get("/ready"))[0] == 503
        await service.register_to_control_plane(plane.url)
        await answers(http.url)
        status, home = await http.get("/")
        assert status == 200
        assert has_shape(home, shapes.SERVICE_HOME)["description"] == "It counts."


async def test_a_publish_carries_the_services_name_and_calls_back(plane: ControlPlaneServer) -> None:
    queue = plane.message_queue
    assert queue is not None
    told: list[QueueMessage] = []
    service = WorkflowService(Greeting(), queue, WorkflowServiceConfig(service_name="s"), publish_callback=told.append)
    subscription = await queue.subscribe("llama_deploy.somewhere")
    message = QueueMessage(type="somewhere", data={"a": 1})
    await service.publish(message)
    delivery = await anext(subscription)
    await delivery.ack()
    await subscription.aclose()
    assert delivery.message.publisher_id == service.publisher_id
    assert delivery.message.stats.publish_time is not None
    assert told == [message]


async def test_a_large_message_reaches_a_remote_consumer_whole(plane: ControlPlaneServer) -> None:
    service = WorkflowService(Greeting(), plane.message_queue, service_name="greeting")
    async with served(service, plane.url):
        consumer = service.as_consumer(remote=True)
        assert isinstance(consumer, RemoteMessageConsumer)
        data = {"input": json.dumps({"name": "x" * 2_000_000}), "task_id": "T"}
        await consumer.process_message(QueueMessage(type="greeting", action=ActionTypes.NEW_TASK, data=data))
        await consumer.aclose()
    assert (await plane.core.tasks.get(None, "T")).service == "greeting"


# Own kinds


class Parrot(BaseService):
    """A user's own service: its ``process_message`` is the work."""

    def __init__(self, queue: Any, **options: Any) -> None:
        super().__init__("parrot", queue, ServiceOptions(description="It repeats.", **options))
        self.seen: list[QueueMessage] = []

    async def process_message(self, message: QueueMessage) -> dict[str, str]:
        self.seen.append(message)
        if message.data["input"] == "bad":
            raise LookupError("bad word")
        return {"said": message.data["input"]}


async def test_a_service_of_ones_own_is_given_messages_and_its_return_is_the_result(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    parrot = Parrot(plane.message_queue)
    async with at_work(parrot, plane.url), Http(plane.url) as http:
        session = await client.create_session()
        body = {"input": "any text", "task_id": "T", "service_id": "parrot"}
        _, result = await http.post(f"/sessions/{session.session_id}/tasks?wait=20", body)
        assert result["value"] == {"said": "any text"}
        [message] = parrot.seen
        assert (message.type, message.action) == ("parrot", ActionTypes.NEW_TASK)
        assert message.data["task_id"] == "T"
        assert message.data["session_id"] == session.session_id
        assert message.data["agent_id"] == message.data["service_id"] == "parrot"
        body = {"input": "bad", "service_id": "parrot"}
        _, result = await http.post(f"/sessions/{session.session_id}/tasks?wait=20", body)
        assert (result["status"], result["error"]["type"], result["error"]["message"]) == (
            "failed",
            "LookupError",
            "bad word",
        )


# raise_exceptions


@pytest.mark.parametrize("way", ["launch_server", "launch_local", "start_consuming"])
async def test_with_raise_exceptions_the_task_fails_typed_first_and_then_the_launch_raises(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient, way: str
) -> None:
    service = WorkflowService(Failing(), plane.message_queue, service_name="failing", raise_exceptions=True)
    await service.register_to_control_plane(plane.url)
    if way == "launch_server":
        task = asyncio.create_task(service.launch_server())
    elif way == "launch_local":
        task = await service.launch_local()
    else:
        task = asyncio.create_task((await service.register_to_message_queue())())
    session = await client.create_session()
    with pytest.raises(TaskFailed, match="LookupError: broken"):
        await session.run("failing", text="broken")
    with pytest.raises(Exception, match="broken") as raised:
        await task
    assert isinstance(raised.value, LookupError) or isinstance(raised.value.__cause__, LookupError)


async def test_without_raise_exceptions_a_service_goes_on_after_a_failure(
    plane: ControlPlaneServer, client: AsyncLlamaDeployClient
) -> None:
    async with at_work(WorkflowService(Failing(), plane.message_queue, service_name="failing"), plane.url):
        session = await client.create_session()
        for text in ("one", "two"):
            with pytest.raises(TaskFailed, match=text):
                await session.run("failing", text=text)


# Helpers


async def listening(settings: WorkflowServiceConfig) -> None:
    """Wait until the service's routes answer, whether it is ready or not."""
    await answers(settings.url, path="/health")


class Bird(BaseService):
    """One that is made as the newer documented form has it."""

    async def process_message(self, message: QueueMessage) -> str:
        return f"said {message.data['input']}"


@pytest.mark.parametrize("form", ["config", "url"])
async def test_a_service_without_a_queue_takes_that_of_its_control_plane(core: Core, form: str) -> None:
    address = core.config if form == "config" else core.config.url
    bird = Bird(name="bird", control_plane_config=address) if form == "config" else Bird("bird", address)
    with pytest.raises(ConfigurationError, match="'bird' was made without a message queue"):
        _ = bird.message_queue
    await bird.register_to_control_plane()
    working = beside(bird.processing_loop(), bird.ready.wait())
    async with working, AsyncLlamaDeployClient(core.config, timeout=20) as client:
        session = await client.create_session()
        assert await session.run("bird", word="hello") == 'said {"word":"hello"}'
        await bird.deregister_from_control_plane()


async def test_a_service_without_an_address_or_a_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a service needs a name"):
        Bird()
    with pytest.raises(ConfigurationError, match="give service 'bird' the address of its control plane"):
        await Bird("bird").register_to_control_plane()
