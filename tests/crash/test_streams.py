"""Readers that are cut off again and again, and readers that do not read: nothing is missing, and nobody is held up."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from arriero import AsyncLlamaDeployClient
from arriero.types.tasks import TaskStatus
from tests.crash.parts import Parts
from tests.harness import Core

EVENTS = 500
#: Events after which a reader drops its connection.
FEW = 20


def memory(pid: int) -> float:
    """MiB that the process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


class Dropping:
    """Reads a few events of a stream, drops the connection in the middle of what comes, and comes back for more."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.connections = 0
        self.entries: list[tuple[int, str, dict[str, Any]]] = []

    @property
    def ended(self) -> bool:
        return bool(self.entries) and self.entries[-1][1] == "end"

    async def read(self, until: int | None = None) -> None:
        """Until the end, or until there are so many entries; while nobody is there, try again."""
        while not self.ended and (until is None or len(self.entries) < until):
            async with aiohttp.ClientSession() as http:
                try:
                    await self._few(http, until)
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)  # the core is away and does not say when it is back

    async def _few(self, http: aiohttp.ClientSession, until: int | None) -> None:
        headers = {"Last-Event-ID": str(self.entries[-1][0])} if self.entries else {}
        async with http.get(self._url, headers=headers) as response:
            assert response.status == 200, await response.text()
            self.connections += 1
            fields: dict[str, str] = {}
            before = len(self.entries)
            async for line in response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    self.entries.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                    fields = {}
                if len(self.entries) in (before + FEW, until):
                    response.close()
                    return


def entries_of(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("id: ")]
    return [(int(number[4:]), kind[7:], json.loads(data[6:])) for number, kind, data in blocks]


def is_whole(entries: list[tuple[int, str, dict[str, Any]]]) -> None:
    """Every event once and in order, then the one end."""
    assert [number for number, _, _ in entries] == list(range(1, EVENTS + 3))
    assert [kind for _, kind, _ in entries] == ["event"] * (EVENTS + 1) + ["end"]
    assert [data["data"]["number"] for _, _, data in entries[:EVENTS]] == list(range(EVENTS))


@pytest.mark.shows("stream.once")
async def test_a_reader_that_drops_its_connection_every_few_events_misses_and_repeats_nothing(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker("Wordy"):
        arguments = {"count": EVENTS, "pause_at": EVENTS // 2, "port": parts.gate.port, "name": "half"}
        task = await session.run_nowait("work", **arguments)
        readers = [Dropping(f"{core.url}/sessions/{session.session_id}/tasks/{task}/events") for _ in range(3)]
        visitor = await parts.gate.arrived("half")
        await asyncio.gather(*(reader.read(until=EVENTS // 2) for reader in readers))
        reading = [asyncio.ensure_future(reader.read()) for reader in readers]
        await core.restart()
        parts.gate.let(visitor)
        await asyncio.gather(*reading)
    for reader in readers:
        is_whole(reader.entries)
        assert reader.connections > EVENTS // FEW


async def test_readers_that_do_not_read_neither_hold_up_the_task_nor_grow_the_core(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()

    async def run(readers: int) -> tuple[float, list[aiohttp.ClientResponse]]:
        """By how much the core has grown when a task has ended that so many readers do not follow."""
        arguments = {"count": EVENTS, "size": 40_000, "pause_at": 0, "port": parts.gate.port, "name": "begun"}
        task = await session.run_nowait("work", **arguments)
        visitor = await parts.gate.arrived("begun")
        url = f"{core.url}/sessions/{session.session_id}/tasks/{task}/events"
        before = memory(core.pid)
        slow = [await http.get(url) for _ in range(readers)]
        parts.gate.let(visitor)
        while (await session.status(task)).status is not TaskStatus.COMPLETED:
            pass
        return memory(core.pid) - before, slow

    async with parts.worker("Wordy"), aiohttp.ClientSession(read_bufsize=1024) as http:
        alone, _ = await run(readers=0)
        grown, slow = await run(readers=90)
        assert grown - alone < 25
        text = await slow[0].text()
        for response in slow:
            response.close()
    is_whole(entries_of(text))


async def test_many_readers_get_the_same_bytes(core: Core, client: AsyncLlamaDeployClient, parts: Parts) -> None:
    session = await client.create_session()
    async with parts.worker("Wordy"), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        arguments = {"count": EVENTS, "pause_at": 9, "port": parts.gate.port, "name": "begun"}
        task = await session.run_nowait("work", **arguments)
        visitor = await parts.gate.arrived("begun")
        url = f"{core.url}/sessions/{session.session_id}/tasks/{task}/events"
        before = memory(core.pid)
        responses = [await http.get(url) for _ in range(300)]
        parts.gate.let(visitor)
        texts = await asyncio.gather(*(response.text() for response in responses))
        assert memory(core.pid) - before < 50
    assert set(texts) == {texts[0]}
    is_whole(entries_of(texts[0]))
