"""Trials: one measurement each, its processes started in a folder of its own and ended with it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import HERE, PLACE, Processes, kill
from systems.base import System


class TrialFailed(Exception):
    """A measurement could not be made; the message holds what the processes said."""


def client(measurement: str, system: System, amounts: dict[str, float], longest: float) -> dict[str, Any]:
    """What the client's process measures of a system that is started for it."""
    with started() as processes:
        address = system.start(processes)
        roles = processes.pids | system.servers()
        arguments = (measurement, system.name, address, json.dumps(roles), json.dumps(amounts))
        return dict(json.loads(_output(processes, "client.py", *arguments, longest=longest)))


def streams(readers: int, events: int, pause_ms: float) -> dict[str, Any]:
    """What readers of one task's stream find, each of them with all of it."""
    from systems import ours

    with started() as processes:
        address = ours.start(processes, "talking.py:Talking")
        arguments = (address, json.dumps(processes.pids), str(readers), str(events), str(pause_ms))
        found = dict(json.loads(_output(processes, "streams.py", *arguments, longest=120)))
    if not found["right"]:
        raise TrialFailed("a reader has missed something, or has got something twice")
    return found


def probe(name: str, amount: int) -> dict[str, Any]:
    """What a probe finds, which starts all that it needs itself."""
    with started() as processes:
        return dict(json.loads(_output(processes, "probe.py", name, str(amount), str(processes.folder), longest=300)))


def cold_start() -> float:
    """Seconds from nothing to the first result, core, worker and client started at the same time."""
    from systems import ours

    with started() as processes:
        start = time.monotonic()  # one clock for all processes
        address = ours.APART.start(processes)
        return float(_output(processes, "cold.py", address, longest=60)) - start


def import_time(statement: str) -> float:
    """Seconds that the statement takes in a fresh interpreter."""
    script = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    with started() as processes:
        return float(_output(processes, "-c", script, longest=60))


def sync_time() -> float:
    """Milliseconds that the disk takes to keep one small write: no durable task is faster than its waits for it."""
    taken = []
    with started() as processes, (processes.folder / "sync").open("wb", buffering=0) as file:
        for _ in range(100):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


@contextmanager
def started() -> Iterator[Processes]:
    with (
        tempfile.TemporaryDirectory(dir=PLACE, prefix="arriero-bench-") as folder,
        Processes(Path(folder)) as processes,
    ):
        yield processes


def _output(processes: Processes, *arguments: str, longest: float) -> str:
    """What a Python program prints that ends by itself, in success and in time."""
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            output, errors = _communicate(program, processes, time.monotonic() + longest)
        finally:
            kill(program.pid)
    if program.returncode:
        raise TrialFailed(f"{errors[-2000:]}\n{processes.trouble()}")
    return output


def _communicate(program: subprocess.Popen[str], processes: Processes, end: float) -> tuple[str, str]:
    while True:
        try:
            return program.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            if ended := processes.ended():
                raise TrialFailed(f"ended before its client: {', '.join(ended)}\n{processes.trouble()}") from None
            if time.monotonic() > end:
                raise TrialFailed(f"it took too long\n{processes.trouble()}") from None
