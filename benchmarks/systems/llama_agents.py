"""llama-agents-server, its handlers in SQLite, called over its own REST API.

aiohttp with kept connections, one request a task, is the fastest way to ask it: its own client takes 2.5 ms of
processor time more for each, and a tenth of the rate, even when it is given an httpx client that keeps connections.
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
