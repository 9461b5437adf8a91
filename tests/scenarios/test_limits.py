"""Limits as clients meet them: a full queue, lists in pages, and tasks that are gone after their time."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest

from arriero import AsyncLlamaDeployClient, ControlPlaneServer, FunctionService, WorkflowService
from arriero.state_stores.base import Committed, Drop, Op
from arriero.types.errors import QueueFull
from tests.harness import Core
from tests.scenarios.flows import Greeting, double
from tests.scenarios.shapes import refused
from tests.scenarios.system import Http, at_work, control_plane, task

KNOWN = {"service_name": "double", "description": "of nobody yet"}


async def session_of(http: Http) -> str:
    status, session_id = await http.post("/sessions/create")
    assert status == 200
    return str(session_id)


async def fill(http: Http, session: str, count: int) -> None:
    for number in range(count):
        status, answer = await http.post(f"/sessions/{session}/tasks", task("double", f'{{"x": {number}}}'))
        assert status == 200, answer


async def test_a_full_queue_is_429_with_a_time_to_come_again(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_queue=2) as server, Http(server.url) as http:
        await http.post("/services/register", KNOWN)
        session = await session_of(http)
        await fill(http, session, 2)
        body = task("double")
        refused(await http.post(f"/sessions/{session}/tasks", body), 429, "queue_full", "double", "2", "max_queue")
        _, headers, _ = await http.whole("POST", f"/sessions/{session}/tasks", json=body)
        assert int(headers["Retry-After"]) >= 1
        status, tasks = await http.get(f"/sessions/{session}/tasks")
        assert (status, len(tasks)) == (200, 2)


async def test_our_client_waits_for_room_and_gives_up_in_the_end_with_the_reason(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_queue=1) as server, Http(server.url) as http:
        await http.post("/services/register", KNOWN)
        await fill(http, await session_of(http), 1)
        async with AsyncLlamaDeployClient(server.config, timeout=2.0) as impatient:
            session = await impatient.create_session()
            began = time.monotonic()
            with pytest.raises(QueueFull, match="limit is 1"):
                await session.run("double", x=4)
            assert time.monotonic() - began < 10
        async with AsyncLlamaDeployClient(server.config, timeout=60.0) as patient:
            session = await patient.create_session()
            running = asyncio.ensure_future(session.run("double", x=4))
            async with at_work(FunctionService(double, server.message_queue, service_name="double"), server.url):
                assert json.loads(await running)["doubled"] == 8


async def test_a_service_brings_its_own_limit(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_queue=100) as server, Http(server.url) as http:
        queue = server.message_queue
        service = WorkflowService(Greeting(), queue, service_name="greet", max_queue=3, running=False)
        async with at_work(service, server.url):
            session = await session_of(http)
            assert (await http.get("/services/greet"))[1]["max_queue"] == 3
            for _ in range(3):
                assert (await http.post(f"/sessions/{session}/tasks", task("greet")))[0] == 200
            refused(await http.post(f"/sessions/{session}/tasks", task("greet")), 429, "queue_full", "limit is 3")


async def test_lists_come_in_pages(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, Http(server.url) as http:
        await http.post("/services/register", KNOWN)
        sessions = sorted([await session_of(http) for _ in range(3)])
        await fill(http, sessions[1], 5)
        seen: list[str] = []
        query = "?limit=2"
        while query:
            _, headers, tasks = await http.whole("GET", f"/sessions/{sessions[1]}/tasks{query}")
            seen += [shown["input"] for shown in tasks]
            after = headers.get("X-Next-After")
            query = f"?limit=2&after={after}" if after else ""
        assert seen == [f'{{"x": {number}}}' for number in range(5)]
        _, headers, page = await http.whole("GET", "/sessions?limit=2")
        assert list(page) == sessions[:2]
        assert unquote(headers["X-Next-After"]) == sessions[1]
        assert len(page[sessions[1]]["task_ids"]) == 5
        _, headers, page = await http.whole("GET", f"/sessions?after={sessions[1]}")
        assert list(page) == sessions[2:]
        assert "X-Next-After" not in headers
        assert (await http.get(f"/sessions/{sessions[1]}/current_task"))[1]["input"] == '{"x": 4}'


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=1e9", "limit=10001", "limit=1;DROP", f"after={'x' * 600}", "after=%00"]
)
async def test_a_page_that_cannot_be_is_refused(tmp_path: Path, query: str) -> None:
    async with control_plane(tmp_path) as server, Http(server.url) as http:
        session = await session_of(http)
        refused(await http.get(f"/sessions?{query}"), 422, "invalid_input")
        refused(await http.get(f"/sessions/{session}/tasks?{query}"), 422, "invalid_input")


async def test_a_task_is_gone_after_its_time_and_its_session_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path, keep_finished_for=0.5) as server, Http(server.url) as http:
        doubling = FunctionService(double, server.message_queue, service_name="double")
        async with at_work(doubling, server.url):
            removed = removal(server, monkeypatch)
            session = await session_of(http)
            status, result = await http.post(f"/sessions/{session}/tasks?wait=10", task("double", '{"x": 2}'))
            assert (status, result["value"]["doubled"]) == (200, 4)
            async with asyncio.timeout(20):
                await removed.wait()
            path = f"/sessions/{session}/tasks"
            refused(await http.get(f"{path}/{result['task_id']}/result"), 404, "unknown_task")
            assert await http.get(path) == (200, [])
            assert (await http.get(f"/sessions/{session}"))[1]["task_ids"] == []
            assert (await http.post(f"{path}?wait=10", task("double", '{"x": 3}')))[0] == 200


def removal(server: ControlPlaneServer, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the control plane has removed something of a stream."""
    removed = asyncio.Event()
    commit = server.core.kernel.store.commit

    async def noted(ops: Sequence[Op], *, durable: bool = True) -> Committed:
        committed = await commit(ops, durable=durable)
        if any(isinstance(op, Drop) for op in ops):
            removed.set()
        return committed

    monkeypatch.setattr(server.core.kernel.store, "commit", noted)
    return removed


async def test_after_a_kill_the_queue_is_as_full_as_before(tmp_path: Path) -> None:
    state, full = f"sqlite:///{tmp_path}/state.db", {"CONTROL_PLANE_MAX_QUEUE": "3"}
    async with Core(state=state, env=full) as core, Http(core.url) as http:
        await http.post("/services/register", KNOWN)
        session = await session_of(http)
        await fill(http, session, 3)
        await core.kill()
        await core.restart()
        refused(await http.post(f"/sessions/{session}/tasks", task("double")), 429, "queue_full", "limit is 3")
        assert await http.post(f"/sessions/{session}/delete") == (200, None)
        await fill(http, await session_of(http), 3)
