"""The documented routes that no client asks, of a control plane in a process of its own."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.harness import Core
from tests.scenarios import shapes
from tests.scenarios.shapes import has_shape
from tests.scenarios.system import Http

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def http(core: Core, workers: None) -> AsyncIterator[Http]:
    async with Http(core.url) as http:
        yield http


async def test_the_home_tells_the_documented_settings(http: Http) -> None:
    status, home = await http.get("/")
    assert status == 200
    has_shape(home, shapes.HOME)


async def test_the_queue_config_has_the_address_of_the_queue(http: Http, core: Core) -> None:
    status, shown = await http.get("/queue_config")
    assert status == 200
    has_shape(shown["SimpleMessageQueueConfig"], shapes.SIMPLE_QUEUE)
    assert shown["SimpleMessageQueueConfig"]["port"] == core.queue_port


async def test_a_message_with_a_new_task_is_done_by_a_worker(http: Http) -> None:
    _, session = await http.post("/sessions/create")
    data = {"input": '{"x": 2}', "task_id": str(uuid4()), "session_id": session, "service_id": "double"}
    message = {"type": "control_plane", "action": "new_task", "data": data}
    assert await http.post("/process_message", message) == (200, None)
    _, result = await http.get(f"/sessions/{session}/tasks/{data['task_id']}/result?wait=20")
    assert result["value"]["doubled"] == 4
