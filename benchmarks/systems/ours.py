"""Arriero over SQLite, through its documented asynchronous client: in one process, and in three."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from load import LANES, Call, ready
from noop import NoOp
from processes import PLACE, Processes, free_port

import arriero
from systems.base import Budget, Lanes, System


def start(processes: Processes, target: str) -> str:
    port = free_port()
    address = address_of(port)
    start_core(processes, port)
    start_worker(processes, address, target)
    return address


def start_core(processes: Processes, port: int) -> None:
    state = f"sqlite:///{processes.folder / 'state.db'}"
    ports = ("--port", str(port), "--queue-port", str(free_port()))
    processes.start("core", "-m", "arriero", "core", *ports, "--state", state, "--log-level", "warning")


def start_worker(
    processes: Processes, address: str, target: str, *more: str, service: str = "noop", role: str = "worker", **env: str
) -> None:
    options = ("--service", service, "--control-plane", address, "--concurrency", str(LANES), *more)
    processes.start(role, "-m", "arriero", "worker", target, *options, "--log-level", "warning", **env)


def address_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def config_of(address: str) -> arriero.ControlPlaneConfig:
    return arriero.ControlPlaneConfig(host="127.0.0.1", port=urlsplit(address).port)


def store_of(address: str) -> Any:
    """The state store of the control plane that runs in this event loop."""
    from arriero.deploy import near

    found = near.find(address)
    assert found is not None
    return found.server.core.kernel.store


async def run(session: arriero.AsyncSessionClient) -> None:
    assert await session.run("noop", x=1) == "1"


@asynccontextmanager
async def lanes(address: str, count: int) -> Lanes:
    """One session a lane, used again for each of its tasks."""
    async with arriero.AsyncLlamaDeployClient(config_of(address)) as client:
        first = await client.create_session()
        await ready(lambda: run(first))
        sessions = [first, *[await client.create_session() for _ in range(count - 1)]]
        yield [_lane(session) for session in sessions]


def _lane(session: arriero.AsyncSessionClient) -> Call:
    return lambda: run(session)


@asynccontextmanager
async def fresh_sessions(address: str, count: int) -> Lanes:
    """A session for each task, deleted after it."""
    async with arriero.AsyncLlamaDeployClient(config_of(address)) as client:

        async def call() -> None:
            session = await client.create_session()
            await run(session)
            await client.delete_session(session.session_id)

        await ready(call)
        yield [call] * count


@asynccontextmanager
async def in_process(address: str) -> AsyncIterator[None]:
    """Core and worker in this event loop."""
    config = config_of(address)
    service = arriero.WorkflowServiceConfig(port=0, service_name="noop", max_concurrent_tasks=LANES)
    with tempfile.TemporaryDirectory(dir=PLACE, ignore_cleanup_errors=True) as folder:
        config.state_store_uri = f"sqlite:///{Path(folder) / 'state.db'}"
        parts = [
            asyncio.create_task(arriero.deploy_core(config, arriero.SimpleMessageQueueConfig(port=free_port()))),
            asyncio.create_task(arriero.deploy_workflow(NoOp(), service, config)),
        ]
        try:
            yield
        finally:
            for part in reversed(parts):
                part.cancel()
                with suppress(asyncio.CancelledError):
                    await part


@asynccontextmanager
async def lanes_together(address: str, count: int) -> Lanes:
    async with in_process(address), lanes(address, count) as calls:
        yield calls


TOGETHER = System(
    "arriero-together",
    "Arriero, everything in one process",
    "durable",
    lambda _processes: address_of(free_port()),
    lanes_together,
    Budget(1.5, 1000),
)
APART = System(
    "arriero-apart",
    "Arriero; client, core and worker apart",
    "durable",
    lambda processes: start(processes, "noop.py:NoOp"),
    lanes,
    Budget(3, 900),
)
FUNCTION = System(
    "arriero-function",
    "the same, a function as handler",
    "durable",
    lambda processes: start(processes, "noop.py:noop"),
    lanes,
    Budget(2.5, 2000),
)
FRESH = System("arriero-fresh", "a session for each task", "durable", APART.start, fresh_sessions)
