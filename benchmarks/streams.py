"""The reader's process: follows streams of one task and prints what it found as JSON.

``python streams.py ADDRESS ROLES READERS EVENTS PAUSE_MS``: so many readers of a task that puts so many events on its
stream, with a pause after each, and tells in each when it was made. All processes share one clock.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
from typing import Any, Self

import aiohttp
import uvloop
from load import percentile
from processes import resident
from systems import ours

import arriero

NUMBER = re.compile(rb"\nid: (\d+)\n")
MADE = re.compile(rb'"made":([0-9.e+-]+)')
KIND = re.compile(rb"\nevent: (\w+)\n")
#: The longest that a task may take, in seconds.
LONGEST = 120


class Follower:
    """Reads one stream to its end; keeps the bytes and when they came."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.opened = asyncio.Event()
        self.chunks: list[tuple[float, bytes]] = []

    async def read(self) -> None:
        async with self._session.get(self._url) as response:
            response.raise_for_status()
            self.opened.set()
            async for chunk in response.content.iter_any():
                self.chunks.append((time.time(), chunk))

    @property
    def text(self) -> bytes:
        return b"\n" + b"".join(chunk for _, chunk in self.chunks)

    def latencies(self) -> list[float]:
        """Milliseconds from the making of each event to its arrival."""
        found, held = [], b""
        for at, chunk in self.chunks:
            whole, end, held = (held + chunk).rpartition(b"\n\n")
            found += [(at - float(made)) * 1000 for made in MADE.findall(whole + end)]
        return found


async def measure(address: str, roles: dict[str, int], readers: int, events: int, pause_ms: float) -> dict[str, Any]:
    async with arriero.AsyncLlamaDeployClient(ours.config_of(address), timeout=LONGEST) as client, Gate() as gate:
        session = await client.create_session()
        arguments = {"count": events, "pause": pause_ms / 1000, "gate": gate.port}

        async def follow(readers: int) -> dict[str, Any]:
            before = resident(roles["core"])
            task = await session.run_nowait("noop", **arguments)
            url = f"{address}/sessions/{session.session_id}/tasks/{task}/events"
            followers, largest = await _follow(url, readers, gate, roles["core"])
            return {**_found(followers, events), "grown": largest - before}

        await follow(1)  # warm
        return await follow(readers)


class Gate:
    """Where the task waits until its readers are there."""

    async def __aenter__(self) -> Self:
        self._arrived: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self._server = await asyncio.start_server(lambda _, writer: self._arrived.put_nowait(writer), "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._server.close()

    async def open(self) -> None:
        (await self._arrived.get()).close()


async def _follow(url: str, readers: int, gate: Gate, core: int) -> tuple[list[Follower], float]:
    """Readers that have read to the end, and the most memory in MiB that the core held meanwhile."""
    timeout = aiohttp.ClientTimeout(total=LONGEST)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
        followers = [Follower(http, url) for _ in range(readers)]
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(follower.read()) for follower in followers]
            for follower in followers:
                await follower.opened.wait()
            peak = group.create_task(_peak(core))
            await gate.open()
            await asyncio.wait(reading)
            peak.cancel()
    return followers, peak.result()


async def _peak(pid: int) -> float:
    """The most memory that the process held until this is cancelled."""
    largest = resident(pid)
    try:
        while True:
            await asyncio.sleep(0.05)
            largest = max(largest, resident(pid))
    except asyncio.CancelledError:
        return max(largest, resident(pid))


def _found(followers: list[Follower], events: int) -> dict[str, Any]:
    text = followers[0].text
    numbers = [int(number) for number in NUMBER.findall(text)]
    right = numbers == list(range(1, events + 3)) and KIND.findall(text).count(b"end") == 1
    ended = re.search(rb'"kind":"end".*?"at":([0-9.e+-]+)', text)
    began = MADE.search(text)
    latencies = [taken for follower in followers for taken in follower.latencies()]
    return {
        "right": right and all(follower.text == text for follower in followers),
        "seconds": float(ended[1]) - float(began[1]) if ended and began else float("nan"),
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
    }


def main(address: str, roles: str, readers: str, events: str, pause_ms: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(address, json.loads(roles), int(readers), int(events), float(pause_ms)))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
