"""One empty step, run by the engine alone and by the runner of the services, in one process, without a queue.

``python benchmarks/workflow_runs.py [--uvloop]`` prints medians: of single runs, then of rate and CPU with 64 at once.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from arriero.runtime.runner import WorkflowRunner

ALONE, TOGETHER, AT_ONCE, ROUNDS = 1500, 4000, 64, 3


class Empty(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.value)


async def main() -> None:
    by_engine = Empty()
    runner = WorkflowRunner(Empty())

    async def awaited() -> None:
        assert await by_engine.run(value=1) == 1

    async def streamed() -> None:
        handler = by_engine.run(value=1)
        async for event in handler.stream_events():
            event.model_dump()
        assert await handler == 1

    async def run() -> None:
        handled = await runner.run({"value": 1}, run_id="run", context=None, on_event=unread)
        assert handled.value == 1

    ways = {"engine, awaited": awaited, "engine, streamed": streamed, "WorkflowRunner": run}
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            figures[name].append((await single(way), *await together(way)))
    for name, rounds in figures.items():
        p50, rate, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:18} p50 {p50:.3f} ms   {rate:5.0f} runs/s   {cpu:4.0f} us of CPU a run")


def unread(data: object, name: str) -> None:
    assert data is not None
    assert name == "StopEvent"


async def single(way: Callable[[], Awaitable[None]]) -> float:
    for _ in range(ALONE // 10):
        await way()
    times = []
    for _ in range(ALONE):
        began = time.perf_counter()
        await way()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


async def together(way: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    async def lane() -> None:
        for _ in range(TOGETHER // AT_ONCE):
            await way()

    runs = TOGETHER // AT_ONCE * AT_ONCE
    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return runs / (time.perf_counter() - began), (time.process_time() - used) / runs * 1e6


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
