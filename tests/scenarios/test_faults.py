"""A fault that nobody foresaw is told by a server as its own, and nothing of it leaves the log."""

import logging
from pathlib import Path
from typing import Any

import pytest

from arriero import (
    AsyncLlamaDeployClient,
    ControlPlaneConfig,
    ControlPlaneServer,
    SimpleMessageQueueConfig,
    SimpleMessageQueueServer,
    WorkflowService,
)
from arriero.core import names
from arriero.message_queues.memory import MemoryMessageQueue
from arriero.state_stores.base import Document
from arriero.state_stores.memory import MemoryStore
from arriero.types.errors import InternalError
from tests.harness import free_port
from tests.scenarios.flows import Greeting
from tests.scenarios.system import Http, beside, control_plane, served, task

SECRET = "the password is hunter2"


def told(answer: tuple[int, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The answer says no more than that there was a fault; the log says all."""
    status, body = answer
    assert status == 500
    assert (body["error"]["code"], body["error"]["type"]) == ("internal", "InternalError")
    assert body["detail"] == body["error"]["message"]
    assert "hunter2" not in str(body)
    record = caplog.records[-1]
    assert (record.name, record.levelno) == ("arriero.serving", logging.ERROR)
    assert record.exc_info is not None
    assert SECRET in str(record.exc_info[1])
    caplog.clear()


class Faulty(MemoryStore):
    async def get(self, collection: str, key: str) -> Document | None:
        if collection in (names.SESSIONS, names.TASKS):
            raise RuntimeError(SECRET)
        return await super().get(collection, key)


@pytest.mark.parametrize("origins", [None, ["http://example.com"]])
async def test_a_fault_of_a_control_plane_is_its_own(
    caplog: pytest.LogCaptureFixture, origins: list[str] | None
) -> None:
    server = ControlPlaneServer(state_store=Faulty(), config=ControlPlaneConfig(port=0, cors_origins=origins))
    async with beside(server.launch_server(), server.started.wait()), Http(server.url) as http:
        await http.post("/services/register", {"service_name": "greeting", "description": "d"})
        caplog.clear()
        told(await http.get("/sessions/S/tasks/T"), caplog)
        told(await http.get("/sessions/S/tasks/T/result"), caplog)
        told(await http.get("/sessions/S/tasks/T/result_stream"), caplog)
        told(await http.post("/sessions/S/tasks", task("greeting")), caplog)
        async with AsyncLlamaDeployClient(server.config, timeout=20) as client:
            with pytest.raises(InternalError, match="its log has the traceback"):
                await client.get_session("S")


class Forgetful(MemoryMessageQueue):
    def depth_of(self, topic: str) -> int:
        raise RuntimeError(SECRET)


async def test_a_fault_of_a_queue_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    config = SimpleMessageQueueConfig(port=free_port())
    async with SimpleMessageQueueServer(config, queue=Forgetful()), Http(f"http://127.0.0.1:{config.port}") as http:
        told(await http.get("/depth/topic"), caplog)


class Shy(WorkflowService):
    async def home(self) -> dict[str, str]:
        raise RuntimeError(SECRET)


async def test_a_fault_of_a_service_is_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with control_plane(tmp_path) as server:
        service = Shy(Greeting(), server.message_queue, service_name="greeting")
        async with served(service, server.url) as url, Http(url) as http:
            told(await http.get("/"), caplog)
