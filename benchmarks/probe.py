"""The process of one probe: starts core and workers, asks them as a client, prints what it found as JSON.

``python probe.py PROBE AMOUNT FOLDER``: everything that is written lies in the folder.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from figures import GONE, WARM
from flows import Said
from load import LANES, Call, for_count, percentile
from stage import PATIENCE, Stage

import arriero

Sessions = list[arriero.AsyncSessionClient]

#: How deep the chain of services is.
DEEPEST = 5
#: Steps of the runs whose durations are compared.
SHORTEST, SHORT, LONG = 1, 10, 100
#: For how many seconds a waiting run is kept at hand.
LINGER = 0.1
#: How many runs are held at once.
HELD = 200


async def nested(stage: Stage, amount: int) -> dict[str, Any]:
    """Milliseconds of a call by the number of services that it passes, in turns."""
    stage.core()
    for number in range(1, DEEPEST + 1):
        stage.worker("Hop", f"hop{number}", BENCH_BELOW=f"hop{number + 1}")
    async with stage.client() as client:
        session = await client.create_session()

        async def call(depth: int) -> None:
            assert await session.call("hop1", {"more": depth - 1}) == depth

        return await _in_turns({str(depth): _of(call, depth) for depth in range(1, DEEPEST + 1)}, amount)


async def journal(stage: Stage, amount: int) -> dict[str, Any]:
    """Milliseconds of a run by its durability and the number of its steps, in turns."""
    stage.core()
    kinds = ("journal", "task")
    for kind in kinds:
        stage.worker("Steps", kind, WORKFLOW_SERVICE_DURABILITY=kind)
    async with stage.client() as client:
        session = await client.create_session()

        async def call(kind: str, count: int) -> None:
            assert await session.call(kind, {"count": count}) == count

        ways = {f"{kind} {count}": _of(call, kind, count) for kind in kinds for count in (SHORTEST, SHORT, LONG)}
        return await _in_turns(ways, amount)


def _of(call: Callable[..., Awaitable[None]], *arguments: Any) -> Call:
    return lambda: call(*arguments)


async def _in_turns(ways: dict[str, Call], amount: int) -> dict[str, float]:
    """The median of each way; what else the machine does hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(amount // 10 + amount):
        for name, way in ways.items():
            start = time.perf_counter()
            await way()
            if number >= amount // 10:
                taken[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(values) for name, values in taken.items()}


async def cancel(stage: Stage, amount: int) -> dict[str, Any]:
    """Milliseconds from the call that cancels to the coroutine, one task after another and all at once; p99 of each."""
    stage.core()
    stage.worker("Held", "held", concurrency=HELD)
    alone: list[float] = []
    together: list[float] = []
    async with stage.client() as client:
        sessions = [await client.create_session() for _ in range(HELD)]
        await _cancelled(sessions, one_by_one=False)  # warm
        for _ in range(amount):
            alone += await _cancelled(sessions, one_by_one=True)
            together += await _cancelled(sessions, one_by_one=False)
    return {
        f"{way} {share:.0%}": percentile(taken, share)
        for way, taken in (("alone", alone), ("together", together))
        for share in (0.5, 0.99)
    }


async def _cancelled(sessions: Sessions, *, one_by_one: bool) -> list[float]:
    async with _visitors() as (port, visitors):
        tasks = [await session.run_nowait("held", number=number, port=port) for number, session in enumerate(sessions)]
        readers = {int(await reader.readline()): reader for reader in [await visitors.get() for _ in tasks]}

        async def one(number: int) -> float:
            start = time.monotonic()
            await sessions[number].cancel(tasks[number])
            return (float(await readers[number].readline()) - start) * 1000

        if one_by_one:
            return [await one(number) for number in range(len(tasks))]
        return await asyncio.gather(*(one(number) for number in range(len(tasks))))


@asynccontextmanager
async def _visitors() -> AsyncIterator[tuple[int, asyncio.Queue[asyncio.StreamReader]]]:
    """A port, and those who connected to it."""
    visitors: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
    writers = []

    def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        visitors.put_nowait(reader)

    server = await asyncio.start_server(came, "127.0.0.1", 0, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1], visitors
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def waiting(stage: Stage, amount: int) -> dict[str, Any]:
    """MiB that runs add which wait for a person; seconds from a start of core and worker to the end of all runs."""

    def start() -> None:
        stage.core()
        stage.worker("Asking", "asking", WORKFLOW_SERVICE_LINGER=str(LINGER))

    start()
    async with stage.client() as client:
        sessions = [await client.create_session() for _ in range(amount)]
        await _answer(sessions, await _ask(sessions[:WARM]))
        await asyncio.sleep(GONE)
        idle = stage.memory()
        tasks = await _ask(sessions)
        await asyncio.sleep(GONE)
        held = stage.memory()
    for role in ("asking", "core"):
        stage.end(role)
    began = time.monotonic()
    start()
    async with stage.client() as client:
        ready = time.monotonic()
        again = [await client.get_session(session.session_id) for session in sessions]
        await _answer(again, tasks)
    seconds = time.monotonic() - ready
    return {"idle": idle, "held": held, "seconds": seconds, "start": ready - began}


async def _ask(sessions: Sessions) -> list[str]:
    """A run in each session, each of which has asked."""
    tasks = [""] * len(sessions)

    async def ask(number: int) -> None:
        tasks[number] = await sessions[number].run_nowait("asking", number=number)
        async for event in sessions[number].get_task_result_stream(tasks[number]):
            assert f"{number}?" in str(event), event
            return

    await _all(ask, range(len(sessions)))
    return tasks


async def _answer(sessions: Sessions, tasks: list[str]) -> None:
    async def answer(number: int) -> None:
        await sessions[number].send_event("asking", tasks[number], Said(number=number))
        async for entry in sessions[number].follow(tasks[number]):
            last = entry
        assert str(last.status) == "completed", last

    await _all(answer, range(len(tasks)))


async def _all(do: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    """Do it for each number, so many at once as there are lanes."""
    left = iter(numbers)

    async def next_one() -> None:
        await do(next(left))

    await for_count([next_one] * LANES, len(list(numbers)))


async def resume(stage: Stage, amount: int) -> dict[str, Any]:
    """Seconds from the kill of a worker to the begin of its step on another; each time, and the median."""
    stage.core()
    stage.worker("Interrupted", "halves", "worker0")
    taken = []
    async with stage.client() as client, _visitors() as (port, visitors):
        session = await client.create_session()
        for number in range(amount):
            task = await session.run_nowait("halves", port=port)
            await _begun(visitors)
            stage.worker("Interrupted", "halves", f"worker{number + 1}")
            await stage.ready()
            killed = time.monotonic()
            stage.end(f"worker{number}", signal.SIGKILL)
            pid, at = await _begun(visitors)
            assert pid == stage.pid(f"worker{number + 1}")
            taken.append(at - killed)
            await session.cancel(task)
    return {"each": taken, "median": statistics.median(taken)}


async def _begun(visitors: asyncio.Queue[asyncio.StreamReader]) -> tuple[int, float]:
    pid, at = (await (await visitors.get()).readline()).split()
    return int(pid), float(at)


PROBES = {probe.__name__: probe for probe in (nested, cancel, journal, waiting, resume)}


async def found_by(name: str, folder: Path, amount: int) -> dict[str, Any]:
    with Stage(folder) as stage:
        async with asyncio.timeout(4 * PATIENCE):
            found = await PROBES[name](stage, amount)
        return {**found, "others": stage.disturbance.share()}


def main(name: str, amount: str, folder: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(found_by(name, Path(folder), int(amount)))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
