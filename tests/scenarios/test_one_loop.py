"""Core, services and clients in one event loop; what they leave behind when they end."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import BaseModel

from arriero import (
    AsyncLlamaDeployClient,
    ControlPlaneConfig,
    SimpleMessageQueueConfig,
    WorkflowServiceConfig,
    deploy_core,
    deploy_function,
    deploy_workflow,
)
from arriero.types.errors import AlreadyInUse, ConfigurationError, TaskFailed, UnknownService
from tests.harness import answers, free_port
from tests.scenarios.flows import Counting, Greeting, Remembering, double
from tests.scenarios.system import Http, core_here

pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Ports:
    def __init__(self) -> None:
        self.control_plane, self.queue, self.service = (free_port() for _ in range(3))

    def all_free(self) -> bool:
        return all(is_free(port) for port in (self.control_plane, self.queue, self.service))


async def test_core_workflow_and_client_run_in_one_loop_and_close_when_cancelled(tmp_path: Path) -> None:
    ports = Ports()
    config = ControlPlaneConfig(port=ports.control_plane, state_store_uri=f"sqlite:///{tmp_path}/state.db")
    service = WorkflowServiceConfig(host="127.0.0.1", port=ports.service, service_name="greeting")
    core = asyncio.create_task(deploy_core(config, SimpleMessageQueueConfig(port=ports.queue)))
    worker = asyncio.create_task(deploy_workflow(Greeting(), service, config))
    async with AsyncLlamaDeployClient(config) as client:
        session = await client.create_session()
        assert await session.run("greeting", name="Ada") == "hello Ada"
        assert not any(is_free(port) for port in (ports.control_plane, ports.queue, ports.service))
    await ended(core, worker)
    assert ports.all_free()


async def test_the_worker_may_end_before_the_core_and_come_back(tmp_path: Path) -> None:
    async with core_here(tmp_path) as config, AsyncLlamaDeployClient(config) as client:
        session = await client.create_session()
        for name in ("one", "two", "three"):
            worker = asyncio.create_task(
                deploy_workflow(Greeting(), WorkflowServiceConfig(service_name="greeting"), config)
            )
            assert await session.run("greeting", name=name) == f"hello {name}"
            await ended(worker)
        task_id = await session.run_nowait("greeting", name="four")
        assert await session.get_task_result(task_id) is None
        worker = asyncio.create_task(
            deploy_workflow(Greeting(), WorkflowServiceConfig(service_name="greeting"), config)
        )
        *_, last = [event async for event in session.get_task_result_stream(task_id)]
        assert last == {"result": "hello four"}
        await ended(worker)


async def test_several_services_share_a_loop_with_their_core(tmp_path: Path) -> None:
    async with core_here(tmp_path) as config, AsyncLlamaDeployClient(config) as client:
        workers = [
            asyncio.create_task(deploy_workflow(workflow, WorkflowServiceConfig(service_name=name), config))
            for name, workflow in {"greeting": Greeting(), "counting": Counting()}.items()
        ]
        workers.append(asyncio.create_task(deploy_function(double, control_plane_config=config)))
        session = await client.create_session()
        results = await asyncio.gather(
            session.run("greeting", name="Ada"), session.run("counting", upto=1), session.run("double", x=2)
        )
        assert results == ["hello Ada", '{"upto":1}', '{"doubled":4,"note":""}']
        assert {service.service_name for service in await client.list_services()} == {"greeting", "counting", "double"}
        await ended(*workers)


async def test_the_routes_of_a_service_beside_its_core_hand_tasks_to_that_core(tmp_path: Path) -> None:
    port = free_port()
    async with core_here(tmp_path) as config, AsyncLlamaDeployClient(config) as client:
        settings = WorkflowServiceConfig(service_name="greeting", port=port)
        worker = asyncio.create_task(deploy_workflow(Greeting(), settings, config))
        session = await client.create_session()
        await answers(f"http://127.0.0.1:{port}")
        async with Http(f"http://127.0.0.1:{port}") as http:
            data = {"input": '{"name": "Ada"}', "task_id": "T", "session_id": session.session_id}
            message = {"type": "greeting", "action": "new_task", "data": data}
            assert await http.post("/process_message", message) == (200, None)
        *_, last = [event async for event in session.get_task_result_stream("T")]
        assert last == {"result": "hello Ada"}
        await ended(worker)


async def test_two_control_planes_in_one_loop_know_nothing_of_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with (
        core_here(tmp_path / "a") as a,
        core_here(tmp_path / "b") as b,
        AsyncLlamaDeployClient(a) as at_a,
        AsyncLlamaDeployClient(b) as at_b,
    ):
        here = asyncio.create_task(deploy_workflow(Greeting(), WorkflowServiceConfig(service_name="same"), a))
        there = asyncio.create_task(deploy_workflow(Remembering(), WorkflowServiceConfig(service_name="same"), b))
        session_a, session_b = await at_a.create_session(), await at_b.create_session()
        assert await session_a.run("same", name="Ada") == "hello Ada"
        assert await session_b.run("same", word="x") == '["x"]'
        assert [session.session_id for session in await at_a.list_sessions()] == [session_a.session_id]
        with pytest.raises(ValueError, match=session_a.session_id):
            await at_b.get_session(session_a.session_id)
        await at_b.deregister_service("same")
        with pytest.raises(UnknownService):
            await at_b.get_service("same")
        assert (await at_a.get_service("same")).service_name == "same"
        await ended(here, there)


async def test_cancelling_lets_what_runs_finish_and_be_reported(tmp_path: Path) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        started.set()
        await go_on.wait()
        return "finished"

    async with core_here(tmp_path) as config, AsyncLlamaDeployClient(config) as client:
        worker = asyncio.create_task(deploy_function(slow, control_plane_config=config))
        session = await client.create_session()
        running = asyncio.ensure_future(session.run("slow"))
        await started.wait()
        worker.cancel()
        go_on.set()
        assert await running == "finished"
        await ended(worker)


async def test_a_fault_of_one_part_is_raised_and_closes_the_others(tmp_path: Path) -> None:
    ports = Ports()
    taken = socket.socket()
    taken.bind(("127.0.0.1", ports.control_plane))
    taken.listen()
    config = ControlPlaneConfig(port=ports.control_plane, state_store_uri=f"sqlite:///{tmp_path}/state.db")
    with taken, pytest.raises(AlreadyInUse, match=str(ports.control_plane)):
        await deploy_core(config, SimpleMessageQueueConfig(port=ports.queue))
    assert ports.all_free()


async def test_a_queue_port_that_is_taken_is_named(tmp_path: Path) -> None:
    ports = Ports()
    taken = socket.socket()
    taken.bind(("127.0.0.1", ports.queue))
    taken.listen()
    config = ControlPlaneConfig(port=ports.control_plane, state_store_uri=f"sqlite:///{tmp_path}/state.db")
    with taken, pytest.raises(AlreadyInUse, match=str(ports.queue)):
        await deploy_core(config, SimpleMessageQueueConfig(port=ports.queue))
    assert ports.all_free()


async def test_a_service_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with core_here(tmp_path) as config:
        assert config.port is not None
        settings = WorkflowServiceConfig(service_name="greeting", port=config.port)
        with pytest.raises(AlreadyInUse, match=str(config.port)):
            await deploy_workflow(Greeting(), settings, config)


async def test_queue_and_control_plane_may_be_deployed_apart(tmp_path: Path) -> None:
    ports = Ports()
    config = ControlPlaneConfig(port=ports.control_plane, state_store_uri=f"sqlite:///{tmp_path}/state.db")
    queue_config = SimpleMessageQueueConfig(port=ports.queue)
    queue = asyncio.create_task(deploy_core(config, queue_config, disable_control_plane=True))
    control_plane = asyncio.create_task(deploy_core(config, queue_config, disable_message_queue=True))
    worker = asyncio.create_task(deploy_workflow(Greeting(), WorkflowServiceConfig(service_name="greeting"), config))
    async with AsyncLlamaDeployClient(config) as client:
        session = await client.create_session()
        assert await session.run("greeting", name="Ada") == "hello Ada"
    async with asyncio.timeout(2):  # the queue is gone before its clients have said goodbye
        await ended(worker, control_plane, queue)
    assert ports.all_free()


async def test_a_timeout_around_a_deployment_is_a_timeout(tmp_path: Path) -> None:
    config = ControlPlaneConfig(port=free_port(), state_store_uri=f"sqlite:///{tmp_path}/state.db")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await deploy_core(config, SimpleMessageQueueConfig(port=free_port()))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await deploy_workflow(Greeting(), WorkflowServiceConfig(service_name="greeting"), config)


async def test_an_exception_of_the_workflow_ends_the_deployment_when_it_was_asked_for(tmp_path: Path) -> None:
    async def wrong() -> None:
        raise LookupError("no such thing")

    async with core_here(tmp_path) as config, AsyncLlamaDeployClient(config) as client:
        settings = WorkflowServiceConfig(service_name="wrong", raise_exceptions=True)
        worker = asyncio.create_task(deploy_function(wrong, control_plane_config=config, config=settings))
        session = await client.create_session()
        with pytest.raises(TaskFailed, match="LookupError: no such thing"):
            await session.run("wrong")
        with pytest.raises(LookupError, match="no such thing"):
            await worker


async def test_parts_in_threads_with_loops_of_their_own_find_each_other(tmp_path: Path) -> None:
    ports = Ports()
    config = ControlPlaneConfig(port=ports.control_plane, state_store_uri=f"sqlite:///{tmp_path}/state.db")
    settings = WorkflowServiceConfig(service_name="greeting", port=ports.service)
    with (
        InThread(lambda: deploy_core(config, SimpleMessageQueueConfig(port=ports.queue))) as core,
        InThread(lambda: deploy_workflow(Greeting(), settings, config)) as worker,
    ):
        async with AsyncLlamaDeployClient(config, timeout=20) as client:
            session = await client.create_session()
            assert await session.run("greeting", name="Ada") == "hello Ada"
        worker.end()
        core.end()
    assert ports.all_free()


class InThread:
    """A coroutine in a thread, in a loop of its own, until it is cancelled."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._make = make
        self._running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        task = asyncio.ensure_future(self._make())
        self._running.set_result((asyncio.get_running_loop(), task))
        await asyncio.wait({task})

    def end(self) -> None:
        loop, task = self._running.result()
        loop.call_soon_threadsafe(task.cancel)
        self._thread.join(20)
        assert task.cancelled()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._thread.is_alive():
            self.end()


async def test_a_deployment_of_nothing_or_of_an_unknown_queue_is_refused() -> None:
    class Unknown(BaseModel):
        type: str = "carrier pigeon"

    with pytest.raises(ConfigurationError, match="nothing to deploy"):
        await deploy_core(disable_control_plane=True, disable_message_queue=True)
    with pytest.raises(ValueError, match=r"carrier pigeon.*simple"):
        await deploy_core(ControlPlaneConfig(port=free_port(), state_store_uri="memory:"), Unknown())
