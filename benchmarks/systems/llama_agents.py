"""llama-agents-server, its handlers in SQLite, called over its own REST API.

Its own client opens a connection a call by default, and its httpx costs more than the server does: aiohttp with kept
connections, one request a task, is the fastest way to ask it, so that is what is measured.
"""

from __future__ import annotations

import importlib.util
from contextlib import asynccontextmanager

from processes import Processes, free_port

from systems.base import Lanes, System

NAME = "llama-agents-server"


def absent() -> str:
    return "" if importlib.util.find_spec("llama_agents") else "not installed"


def start(processes: Processes) -> str:
    port = free_port()
    processes.start("server", "llama_agents_served.py", str(port), str(processes.folder / "handlers.db"))
    return f"http://127.0.0.1:{port}"


@asynccontextmanager
async def lanes(address: str, count: int) -> Lanes:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(address, connector=connector) as session:

        async def call() -> None:
            async with session.post("/workflows/noop/run", json={"start_event": {"x": 1}}) as response:
                answer = await response.json()
            assert answer["result"]["value"]["result"] == 1, answer

        yield [call] * count


SQLITE = System(NAME, f"{NAME}, SQLite; aiohttp, one request a task", "durable", start, lanes, absent=absent)
