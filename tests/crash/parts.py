"""Workers that make trouble, what they left outside, and what the control plane tells of it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from arriero import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.types.errors import TaskTimedOut
from arriero.types.services import ServiceDefinition
from arriero.types.tasks import TaskDefinition
from tests.harness import Core, Worker
from tests.scenarios.gate import Gate
from tests.scenarios.troubles import HERE

#: Durations in seconds: of leases, between their renewals, and for a lost link.
SHORT = {"CONTROL_PLANE_LEASE": "1.0", "CONTROL_PLANE_RENEW_EVERY": "0.2", "CONTROL_PLANE_LINK_GRACE": "0.1"}
#: Where a worker finds the troubles, and the package as it stands beside them.
ROOT = os.pathsep.join(str(Path(__file__).parents[2] / folder) for folder in ("", "src"))


@dataclass(frozen=True)
class Parts:
    """What a test of crashes works with."""

    core: Core
    gate: Gate
    effects: Path

    def worker(
        self, name: str = "Misbehaving", service: str = "work", concurrency: int = 1, where: Path = HERE
    ) -> Worker:
        """A worker that serves one of the troubles, and writes what it does into the file of effects."""
        env = {"PYTHONPATH": ROOT, "EFFECTS": str(self.effects)}
        return Worker(f"{where}:{name}", service=service, core=self.core, concurrency=concurrency, env=env)

    def done_outside(self) -> list[list[str]]:
        """The effects so far: words and process ids."""
        return [line.split() for line in self.effects.read_text().splitlines()] if self.effects.exists() else []

    async def at_gate(self, session: AsyncSessionClient, name: str, service: str = "work") -> str:
        """Submit a task whose step has its effect and then stands at the gate under this name; gives its id."""
        return await session.run_nowait(service, deed="gate", port=self.gate.port, name=name, effect=name)

    async def entries(self, session: AsyncSessionClient, task: str, after: int = 0) -> list[dict[str, Any]]:
        """All entries of a task's stream, each with its ``id``, until the stream ends."""
        url = f"{self.core.url}/sessions/{session.session_id}/tasks/{task}/events"
        headers = {"Last-Event-ID": str(after)} if after else {}
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
            assert response.status == 200, await response.text()
            return [_entry(block) for block in (await response.text()).split("\n\n") if block.startswith("id:")]

    async def kinds(self, session: AsyncSessionClient, task: str) -> list[str]:
        """What kinds of entries the stream has; ids count from 1 without a gap."""
        entries = await self.entries(session, task)
        assert [entry["id"] for entry in entries] == list(range(1, len(entries) + 1))
        return [entry["kind"] for entry in entries]


def parts_in(core: Core, gate: Gate, effects: Path) -> Parts:
    return Parts(core, gate, effects)


def _entry(block: str) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return {**json.loads(fields["data"]), "id": int(fields["id"]), "kind": fields["event"]}


async def passed(client: AsyncLlamaDeployClient, seconds: float) -> None:
    """So much time has passed by the control plane's own clock: a task that nobody takes has met its deadline."""
    await client.register_service(ServiceDefinition(service_name="nobody", description="takes nothing"))
    session = await client.create_session()
    task = await session.create_task(TaskDefinition(input="{}", service_id="nobody", deadline=seconds))
    with pytest.raises(TaskTimedOut):
        await result_of(session, task)


async def result_of(session: AsyncSessionClient, task: str) -> str:
    """The result of a task as text, when it has ended in success."""
    async for _ in session.get_task_result_stream(task):
        pass
    result = await session.get_task_result(task)
    assert result is not None
    return result.result
