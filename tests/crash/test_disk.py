"""The disk is full: nothing is accepted and nothing is lost, and all goes on when there is room again."""

import asyncio
import resource

import pytest

from arriero import AsyncLlamaDeployClient
from arriero.types.errors import StoreUnavailable
from tests.crash.parts import Parts, result_of
from tests.harness import Core
from tests.scenarios.raw import ask, request

#: Bytes. Whatever comes later is behind them in the file that a commit is written to.
SMALL = 32 * 1024


def fill(core: Core) -> None:
    """No file of the core can be written beyond what its database had come to at its start: as on a full disk."""
    _, hard = resource.prlimit(core.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(core.pid, resource.RLIMIT_FSIZE, (SMALL, hard))


def make_room(core: Core) -> None:
    _, hard = resource.prlimit(core.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(core.pid, resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.shows("down.store")
async def test_a_full_disk_refuses_tasks_with_503_and_takes_them_when_there_is_room(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker():
        assert await session.run("work", deed="fine") == "fine"
        fill(core)
        body = b'{"input": "{\\"deed\\": \\"fine\\"}", "service_id": "work"}'
        answer = await ask(core.port, request("POST", f"/sessions/{session.session_id}/tasks", body))
        assert (answer.status, answer.body["error"]["code"]) == (503, "store_unavailable"), answer
        assert "retry-after" in answer.headers
        async with core.client(timeout=1.0) as hasty:
            with pytest.raises(StoreUnavailable):
                await (await hasty.get_session(session.session_id)).run("work", deed="fine")
        assert len(await session.get_tasks()) == 1
        ready = await ask(core.port, request("GET", "/ready"))
        assert (ready.status, list(ready.body["problems"])) == (503, ["store"]), ready
        patient = asyncio.ensure_future(session.run("work", deed="fine"))
        make_room(core)
        assert await patient == "fine"
        assert len(await session.get_tasks()) == 2
        assert (await ask(core.port, request("GET", "/ready"))).status == 200


@pytest.mark.shows("down.store")
async def test_a_core_that_nobody_writes_to_says_when_its_disk_has_room_again(
    core: Core, client: AsyncLlamaDeployClient
) -> None:
    fill(core)
    while (await ask(core.port, request("POST", "/sessions/create"))).status == 200:
        pass  # there was some room left
    assert (await ask(core.port, request("GET", "/ready"))).status == 503
    make_room(core)
    assert (await ask(core.port, request("GET", "/ready"))).status == 200


@pytest.mark.shows("down.results")
async def test_what_runs_while_the_disk_is_full_is_reported_when_there_is_room(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker():
        task = await parts.at_gate(session, "a")
        visitor = await parts.gate.arrived("a")
        fill(core)
        parts.gate.let(visitor)
        answer = await ask(core.port, request("POST", "/sessions/create"))
        assert answer.status == 503
        assert await session.get_task_result(task) is None
        make_room(core)
        assert await result_of(session, task) == "through a"
        assert await session.run("work", deed="fine") == "fine"
    assert len(parts.done_outside()) == 1
