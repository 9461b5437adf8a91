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
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit

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


class Follower(asyncio.Protocol):
    """Reads one stream to its end and keeps the bytes and when they came: a client library would cost more than the
    core that is measured.
    """

    def __init__(self, path: str) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        self.opened = asyncio.Event()
        self.ended = asyncio.Event()
        self.chunks: list[tuple[float, bytes]] = []

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.chunks.append((time.time(), data))
        self.opened.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.opened.set()
        self.ended.set()

    def text(self) -> bytes:
        """The body, out of its chunks."""
        raw = b"".join(chunk for _, chunk in self.chunks)
        parts, at = [b"\n"], raw.index(b"\r\n\r\n") + 4
        while at < len(raw):
            end = raw.index(b"\r\n", at)
            size = int(raw[at:end], 16)
            parts.append(raw[end + 2 : end + 2 + size])
            at = end + size + 4
        return b"".join(parts)

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
            followers = [Follower(f"/sessions/{session.session_id}/tasks/{task}/events") for _ in range(readers)]
            largest = await _follow(address, followers, gate, roles["core"])
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


async def _follow(address: str, followers: list[Follower], gate: Gate, core: int) -> float:
    """Have them read to the end; gives the most memory in MiB that the core held meanwhile."""
    loop, place = asyncio.get_running_loop(), urlsplit(address)
    for follower in followers:
        await loop.create_connection(partial(_itself, follower), place.hostname, place.port)
        await follower.opened.wait()
    async with asyncio.timeout(LONGEST), asyncio.TaskGroup() as group:
        peak = group.create_task(_peak(core))
        await gate.open()
        for follower in followers:
            await follower.ended.wait()
        peak.cancel()
    return peak.result()


def _itself(follower: Follower) -> Follower:
    return follower


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
    text = followers[0].text()
    numbers = [int(number) for number in NUMBER.findall(text)]
    right = numbers == list(range(1, events + 3)) and KIND.findall(text).count(b"end") == 1
    ended = re.search(rb'"kind":"end".*?"at":([0-9.e+-]+)', text)
    began = MADE.search(text)
    latencies = [taken for follower in followers for taken in follower.latencies()]
    return {
        "right": right and all(follower.text() == text for follower in followers),
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
