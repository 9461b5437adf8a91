"""The core killed and started again: what was accepted is done, what was done is there, readers miss nothing."""

import asyncio

import pytest

from arriero import AsyncLlamaDeployClient, AsyncSessionClient
from tests.crash.parts import Parts, result_of
from tests.harness import Core


async def numbers_of(session: AsyncSessionClient, task: str, seen: asyncio.Queue[int]) -> list[int]:
    """The numbers that a task streams, each put into ``seen`` as it comes."""
    numbers = []
    async for event in session.get_task_result_stream(task):
        if "number" in event:
            numbers.append(event["number"])
            seen.put_nowait(event["number"])
    return numbers


async def test_finished_running_and_queued_tasks_outlive_the_core(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    sessions = [await client.create_session() for _ in range(4)]
    async with parts.worker():
        finished = await sessions[0].run_nowait("work", deed="fine")
        assert await result_of(sessions[0], finished) == "fine"
        running = await parts.at_gate(sessions[1], "running")
        visitor = await parts.gate.arrived("running")
        queued = [await session.run_nowait("work", deed="fine") for session in sessions[2:]]
        waiting = asyncio.ensure_future(sessions[2].run("work", deed="fine"))
        await core.restart()
        known = await sessions[0].get_task_result(finished)
        assert known is not None
        assert known.result == "fine"
        parts.gate.let(visitor)
        assert await result_of(sessions[1], running) == "through running"
        assert [await result_of(s, task) for s, task in zip(sessions[2:], queued, strict=True)] == ["fine", "fine"]
        assert await waiting == "fine"
        assert await parts.kinds(sessions[1], running) == ["event", "event", "end"]
    assert len(parts.done_outside()) == 1


@pytest.mark.shows("down.control-plane")
async def test_what_a_worker_finishes_while_the_core_is_away_is_reported_when_it_is_back(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker("Wordy") as worker:
        arguments = {"count": 6, "pause_at": 2, "port": parts.gate.port, "name": "half"}
        task = await session.run_nowait("work", **arguments)
        visitor = await parts.gate.arrived("half")
        await core.kill()
        parts.gate.let(visitor)
        core.start()
        await core.ready()
        assert await result_of(session, task) == "6"
        entries = await parts.entries(session, task)
        assert [entry["data"]["number"] for entry in entries[:-2]] == list(range(6))
        assert worker.running


async def test_streams_go_on_over_a_restart_without_gap_or_repeat(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker("Wordy"):
        arguments = {"count": 200, "pause_at": 99, "port": parts.gate.port, "name": "half"}
        task = await session.run_nowait("work", **arguments)
        visitor = await parts.gate.arrived("half")
        queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(3)]
        readers = [asyncio.ensure_future(numbers_of(session, task, seen)) for seen in queues]
        for seen in queues:
            while await seen.get() < 99:
                pass
        await core.restart()
        parts.gate.let(visitor)
        assert await asyncio.gather(*readers) == [list(range(200))] * 3


async def test_core_and_worker_killed_together_lose_nothing(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker() as worker:
        task = await parts.at_gate(session, "a")
        await parts.gate.arrived("a")
        await asyncio.gather(core.kill(), worker.kill())
        core.start()
        worker.start()
        await parts.gate.open("a")
        assert await result_of(session, task) == "through a"
        kinds = await parts.kinds(session, task)
        assert kinds[-4:] == ["restarted", "event", "event", "end"]
        assert len(parts.done_outside()) == 2
        await worker.ready()


async def test_a_core_that_is_killed_again_and_again_gets_everything_done_once(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    sessions = [await client.create_session() for _ in range(10)]
    async with parts.worker("noted", concurrency=4):
        runs = [asyncio.ensure_future(session.run("work", number=n)) for n, session in enumerate(sessions * 10)]
        for share in (5, 35, 65):
            await asyncio.wait({runs[share]})
            await core.restart()
        assert await asyncio.gather(*runs) == [str(2 * n) for n in range(100)]
    tasks = {task.task_id: session for session in sessions for task in await session.get_tasks()}
    assert len(tasks) == 100
    for task, session in tasks.items():
        kinds = await parts.kinds(session, task)
        assert (kinds.count("end"), kinds[-1]) == (1, "end")


async def test_a_core_that_is_told_to_end_does_not_wait_for_those_who_wait(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker():
        waiting = asyncio.ensure_future(session.run("work", deed="gate", port=parts.gate.port, name="a", effect="a"))
        visitor = await parts.gate.arrived("a")
        [task] = [task.task_id for task in await session.get_tasks()]
        reading = asyncio.ensure_future(result_of(session, task))
        assert await core.terminate(within=8.0) == 0
        core.start()
        parts.gate.let(visitor)
        assert await waiting == "through a"
        assert await reading == "through a"


@pytest.mark.shows("time.outage")
async def test_a_core_that_was_stopped_for_longer_than_a_lease_takes_no_items_away(
    core: Core, client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    """Whether a worker renewed while the core slept is not known, so nothing runs out before it can be heard."""
    session = await client.create_session()
    async with parts.worker():
        task = await parts.at_gate(session, "a")
        visitor = await parts.gate.arrived("a")
        core.pause()
        with pytest.raises(TimeoutError):
            await core.ended(within=1.5)
        core.go_on()
        parts.gate.let(visitor)
        assert await result_of(session, task) == "through a"
        assert await parts.kinds(session, task) == ["event", "event", "end"]
