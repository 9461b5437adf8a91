"""The core and the workers of one probe, which starts them and ends them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from load import LANES
from processes import Disturbance, Processes, free_port, resident
from systems import ours

import arriero
from arriero.client.caller import AsyncCaller
from arriero.client.requests import Request

#: Seconds that anything may take.
PATIENCE = 60.0


class Stage:
    """Ends what it has started when the block ends. A worker's role is the name of its service, unless one is given."""

    def __init__(self, folder: Path) -> None:
        self._processes = Processes(folder)
        self._core_port = free_port()
        self._ports: dict[str, int] = {}
        self.address = ours.address_of(self._core_port)

    def __enter__(self) -> Self:
        self._processes.__enter__()
        self.disturbance = Disturbance({"all": os.getpid()})
        return self

    def __exit__(self, *raised: object) -> None:
        self._processes.__exit__(None, None, None)

    def core(self) -> None:
        """Start it, on what an earlier one has left."""
        self._ports["core"] = self._core_port
        ours.start_core(self._processes, self._core_port)

    def worker(
        self, workflow: str, service: str, role: str = "", *, concurrency: int = LANES, **environment: str
    ) -> None:
        port = self._ports[role or service] = free_port()
        options = ("--port", str(port), "--concurrency", str(concurrency))
        ours.start_worker(
            self._processes,
            self.address,
            f"flows.py:{workflow}",
            *options,
            service=service,
            role=role or service,
            **environment,
        )

    async def ready(self) -> None:
        """Return when every part that runs is connected."""
        await asyncio.gather(*(_ready(ours.address_of(port)) for port in self._ports.values()))

    def end(self, role: str, number: signal.Signals = signal.SIGTERM) -> None:
        del self._ports[role]
        self._processes.end(role, number)

    def pid(self, role: str) -> int:
        return self._processes.pids[role]

    def memory(self) -> dict[str, float]:
        """MiB that each process holds."""
        return {role: resident(pid) for role, pid in self._processes.pids.items()}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[arriero.AsyncLlamaDeployClient]:
        await self.ready()
        async with arriero.AsyncLlamaDeployClient(ours.config_of(self.address), timeout=PATIENCE) as client:
            yield client


async def _ready(address: str) -> None:
    caller = AsyncCaller(address, PATIENCE)
    try:
        await caller.call(Request("GET", "/ready", bytes))
    finally:
        await caller.aclose()
