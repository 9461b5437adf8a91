"""The client's process: runs one measurement against a system and prints what it found as JSON.

``python client.py MEASUREMENT SYSTEM ADDRESS ROLES AMOUNTS``, the last two as JSON; on uvloop, as every other process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import uvloop
from load import LANES, Call, for_count, for_seconds, percentile, ready, sequential
from processes import Disturbance, cpu_seconds, resident
from systems import SYSTEMS, ours
from systems.base import System

#: Seconds after the last task from which on a system counts as idle.
SETTLED = 2.0


@dataclass(frozen=True)
class Trial:
    """What is measured, in which processes (by role), and how much of it."""

    address: str
    roles: dict[str, int]
    amounts: dict[str, float]


async def speed(lanes: list[Call], trial: Trial) -> dict[str, Any]:
    """Calls one after another, then from all lanes at once, each after a warm-up; CPU a task of each process."""
    await for_seconds(lanes, trial.amounts["warm"])
    disturbance = Disturbance(trial.roles)
    taken = await sequential(lanes[0], trial.amounts["sequential"])
    await for_seconds(lanes, trial.amounts["warm"] / 2)
    before, start = _cpu(trial.roles), time.monotonic()
    count = await for_seconds(lanes, trial.amounts["at_once"])
    seconds, after = time.monotonic() - start, _cpu(trial.roles)
    return {
        "p50_ms": percentile(taken, 0.5),
        "p99_ms": percentile(taken, 0.99),
        "per_second": count / seconds,
        "cpu_us": {role: (spent - before[role]) / count * 1e6 for role, spent in after.items()},
        "others": disturbance.share(),
    }


async def growth(lanes: list[Call], trial: Trial) -> dict[str, Any]:
    """Memory of each process after few tasks and after many; then processor time while nothing is asked."""
    few, many = int(trial.amounts["few"]), int(trial.amounts["many"])
    await for_count(lanes, few)
    early = _memory(trial.roles)
    await for_count(lanes, many - few)
    late = _memory(trial.roles)
    await asyncio.sleep(SETTLED)
    before = _cpu(trial.roles)
    await asyncio.sleep(trial.amounts["idle"])
    idle = {role: spent - before[role] for role, spent in _cpu(trial.roles).items()}
    return {"early": early, "late": late, "idle": idle}


async def commits(lanes: list[Call], trial: Trial) -> dict[str, Any]:
    """What the store of this process counted while tasks ran one after another, and from all lanes at once."""
    stats = ours.store_of(trial.address).stats
    counted = {}
    for way, used in (("sequential", lanes[:1]), ("at_once", lanes)):
        count = int(trial.amounts[way])
        before = stats.commits, stats.groups, stats.durable_groups
        await for_count(used, count)
        after = stats.commits, stats.groups, stats.durable_groups
        counted[way] = [(new - old) / count for old, new in zip(before, after, strict=True)]
    return counted


MEASUREMENTS: dict[str, Callable[[list[Call], Trial], Awaitable[dict[str, Any]]]] = {
    "speed": speed,
    "growth": growth,
    "commits": commits,
}


def _cpu(roles: dict[str, int]) -> dict[str, float]:
    return {role: cpu_seconds(pid) for role, pid in roles.items()}


def _memory(roles: dict[str, int]) -> dict[str, float]:
    return {role: resident(pid) for role, pid in roles.items()}


async def measure(name: str, system: System, trial: Trial) -> dict[str, Any]:
    async with system.lanes(trial.address, LANES) as lanes:
        await ready(lanes[0])
        return await MEASUREMENTS[name](lanes, trial)


def main(name: str, system: str, address: str, roles: str, amounts: str) -> None:
    known = {**SYSTEMS, ours.FRESH.name: ours.FRESH}
    trial = Trial(address, {"client": os.getpid(), **json.loads(roles)}, json.loads(amounts))
    gc.set_threshold(20_000, 20, 100)  # as in the processes that `python -m arriero` starts, and as its docs advise
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(name, known[system], trial))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
