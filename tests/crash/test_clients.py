"""Clients that go away in the middle: what they asked for is done, and others find it."""

import asyncio

import aiohttp
import pytest

from arriero import AsyncLlamaDeployClient
from tests.crash.parts import Parts, result_of
from tests.harness import Core, Process

WAITING = """
import asyncio, json, sys
from arriero import AsyncLlamaDeployClient, ControlPlaneConfig

async def main(port, session_id, arguments):
    async with AsyncLlamaDeployClient(ControlPlaneConfig(port=int(port))) as client:
        session = await client.get_session(session_id)
        await session.run("work", **json.loads(arguments))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def core(lasting_core: Core) -> Core:
    return lasting_core


async def test_the_task_of_a_client_that_was_killed_in_mid_wait_is_done(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    arguments = f'{{"deed": "gate", "port": {parts.gate.port}, "name": "a"}}'
    async with parts.worker():
        async with Process("-c", WAITING, str(parts.core.port), session.session_id, arguments) as gone:
            visitor = await parts.gate.arrived("a")
            await gone.kill()
        parts.gate.let(visitor)
        [task] = await session.get_tasks()
        assert await result_of(session, task.task_id) == "through a"
        assert await session.run("work", deed="fine") == "fine"


async def test_a_hundred_clients_that_hang_up_leave_nothing_behind(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker():
        task = await parts.at_gate(session, "a")
        visitor = await parts.gate.arrived("a")
        url = f"{parts.core.url}/sessions/{session.session_id}/tasks/{task}"
        async with aiohttp.ClientSession() as http:
            for _ in range(50):
                async with http.get(f"{url}/events") as response:
                    await response.content.readany()
                waiting = asyncio.ensure_future(http.get(f"{url}/result?wait=60"))
                await (await http.get(f"{parts.core.url}/health")).read()
                waiting.cancel()
        parts.gate.let(visitor)
        assert await result_of(session, task) == "through a"


async def test_a_stream_that_was_dropped_is_resumed_by_another_reader(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker("Wordy"):
        arguments = {"count": 20, "pause_at": 9, "port": parts.gate.port, "name": "half"}
        task = await session.run_nowait("work", **arguments)
        visitor = await parts.gate.arrived("half")
        first: list[int] = []
        url = f"{parts.core.url}/sessions/{session.session_id}/tasks/{task}/events"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            while len(first) < 10:
                line = (await response.content.readline()).decode().strip()
                if line.startswith("id: "):
                    first.append(int(line.removeprefix("id: ")))
        parts.gate.let(visitor)
        await result_of(session, task)
        rest = await parts.entries(session, task, after=first[-1])
        assert [*first, *(entry["id"] for entry in rest)] == list(range(1, 23))
        assert [entry["data"]["number"] for entry in rest[:-2]] == list(range(10, 20))
