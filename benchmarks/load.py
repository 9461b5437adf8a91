"""The load: calls one after another, and calls from many lanes at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence

#: One task from its submission to its result. A lane is a call that is repeated, never started while it runs.
Call = Callable[[], Awaitable[None]]

LANES = 64
#: How long a system may take from its start to its first result.
READY = 30.0


async def ready(call: Call) -> None:
    """Return when the call first succeeds. Programs that do not tell when they are ready can only be asked."""
    end = time.monotonic() + READY
    while True:
        try:
            await asyncio.wait_for(call(), READY)
        except Exception:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.02)
        else:
            return


async def sequential(call: Call, seconds: float) -> list[float]:
    """The duration of each call, in milliseconds."""
    taken = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        await call()
        taken.append((time.perf_counter() - start) * 1000)
    return taken


async def for_seconds(lanes: Sequence[Call], seconds: float) -> int:
    """Keep every lane busy for a time; how many calls were answered, the last ones included."""
    end = time.perf_counter() + seconds
    return await _busy(lanes, lambda: time.perf_counter() < end)


async def for_count(lanes: Sequence[Call], count: int) -> int:
    """Keep every lane busy until so many calls were answered."""
    tickets = iter(range(count))
    return await _busy(lanes, lambda: next(tickets, None) is not None)


async def _busy(lanes: Sequence[Call], more: Callable[[], bool]) -> int:
    async def run(call: Call) -> int:
        done = 0
        while more():
            await call()
            done += 1
        return done

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(call)) for call in lanes]
    return sum(task.result() for task in tasks)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
