"""Workers that are killed, stopped, told to end, or taken along by what they run."""

import asyncio
import json

import pytest

from arriero import AsyncLlamaDeployClient
from arriero.types.errors import TaskDead
from arriero.types.services import ServiceDefinition
from arriero.types.tasks import TaskStatus
from tests.crash.parts import Parts, passed, result_of
from tests.harness import Core, Worker


@pytest.fixture
def core(lasting_core: Core) -> Core:
    return lasting_core


@pytest.mark.shows("link.grace")
async def test_the_task_of_a_killed_worker_is_done_by_another(client: AsyncLlamaDeployClient, parts: Parts) -> None:
    session = await client.create_session()
    async with parts.worker() as first:
        task = await parts.at_gate(session, "a")
        await parts.gate.arrived("a")
        async with parts.worker() as second:
            await first.kill()
            await parts.gate.open("a")
            assert await result_of(session, task) == "through a"
            assert parts.done_outside() == [["a", str(first.pid)], ["a", str(second.pid)]]
            kinds = await parts.kinds(session, task)
            assert kinds == ["event", "restarted", "event", "event", "end"]


@pytest.mark.shows("accept.worker-left")
async def test_a_killed_workers_task_waits_until_a_worker_comes(client: AsyncLlamaDeployClient, parts: Parts) -> None:
    session = await client.create_session()
    async with parts.worker() as first:
        task = await session.run_nowait("work", deed="exit_at_first")
        assert await first.ended() == 13
    assert await session.get_task_result(task) is None
    async with parts.worker():
        assert await result_of(session, task) == "done by another"
    assert len(parts.done_outside()) == 2


@pytest.mark.shows("fencing.told")
async def test_a_worker_stopped_past_its_lease_is_refused_and_goes_on(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    one, two = await client.create_session(), await client.create_session()
    async with parts.worker() as stopped:
        task = await parts.at_gate(one, "a")
        visitor = await parts.gate.arrived("a")
        stopped.pause()
        async with parts.worker() as other:
            await parts.gate.open("a")  # the other's: the lease ran out
            assert await result_of(one, task) == "through a"
            later = await parts.at_gate(two, "b")
            blocked = await parts.gate.arrived("b")
            parts.gate.let(visitor)
            stopped.go_on()
            # The other is busy: the one that was stopped has heard that its claim is gone, and takes the next.
            third = await parts.at_gate(await client.create_session(), "c")
            await parts.gate.open("c")
            assert parts.done_outside()[-1] == ["c", str(stopped.pid)]
            parts.gate.let(blocked)
            assert await result_of(two, later) == "through b"
        kinds = await parts.kinds(one, task)
        assert (kinds.count("restarted"), kinds.count("end"), kinds[-1]) == (1, 1, "end")
        assert [line[1] for line in parts.done_outside()][:2] == [str(stopped.pid), str(other.pid)]
        assert third


async def test_a_worker_stopped_alone_past_its_lease_does_its_task_once_more_and_ends_it_once(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker() as stopped:
        task = await parts.at_gate(session, "a")
        first = await parts.gate.arrived("a")
        stopped.pause()
        await passed(client, 1.5)
        stopped.go_on()
        parts.gate.let(first)
        again = asyncio.ensure_future(parts.gate.open("a"))
        assert await result_of(session, task) == "through a"
        again.cancel()
        kinds = await parts.kinds(session, task)
        assert (kinds.count("end"), kinds[-1]) == (1, "end")
        assert await session.run("work", deed="fine") == "fine"


async def test_a_worker_that_is_told_to_end_finishes_what_runs_and_takes_nothing_new(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    one, two = await client.create_session(), await client.create_session()
    async with parts.worker(concurrency=4) as first:
        task = await parts.at_gate(one, "a")
        visitor = await parts.gate.arrived("a")
        ending = asyncio.ensure_future(first.terminate())
        async with parts.worker() as second:
            later = [await parts.at_gate(two, "b") for _ in range(2)]
            await parts.gate.open("b")
            parts.gate.let(visitor)
            assert await ending == 0
            assert await result_of(one, task) == "through a"
            await parts.gate.open("b")
            assert [await result_of(two, each) for each in later] == ["through b"] * 2
            assert parts.done_outside() == [["a", str(first.pid)], *[["b", str(second.pid)]] * 2]
        assert await parts.kinds(one, task) == ["event", "event", "end"]


@pytest.mark.shows("retry.losses")
@pytest.mark.parametrize("deed", ["exit", "interrupt", "stop_the_loop"])
async def test_a_step_that_kills_every_worker_is_dead_and_the_others_are_done(
    client: AsyncLlamaDeployClient, parts: Parts, deed: str
) -> None:
    sessions = [await client.create_session() for _ in range(5)]
    async with parts.worker(concurrency=8) as worker:
        bystanders = [await parts.at_gate(session, "bystander") for session in sessions[:2]]
        for _ in bystanders:
            await parts.gate.arrived("bystander")
        living = asyncio.ensure_future(start_again_and_again(worker))
        poison = await sessions[2].run_nowait("work", deed=deed, effect="poison")
        quick = [await session.run_nowait("work", deed="fine") for session in sessions[3:]]
        opening = asyncio.ensure_future(let_all(parts, "bystander"))
        with pytest.raises(TaskDead, match=r"5 workers of service 'work' were lost.*max_losses"):
            await result_of(sessions[2], poison)
        dead = await sessions[2].get_task_result(poison)
        assert dead is not None
        assert dead.status is TaskStatus.DEAD
        assert [line[0] for line in parts.done_outside()].count("poison") == 5
        for session, task in zip(sessions[:2], bystanders, strict=True):
            assert await result_of(session, task) == "through bystander"
        assert [await result_of(session, task) for session, task in zip(sessions[3:], quick, strict=True)] == [
            "fine"
        ] * 2
        living.cancel()
        opening.cancel()
        await asyncio.gather(living, opening, return_exceptions=True)


async def start_again_and_again(worker: Worker) -> None:
    """What a supervisor does."""
    while True:
        await worker.ended(within=60)
        worker.start()


async def let_all(parts: Parts, name: str) -> None:
    while True:
        await parts.gate.open(name)


@pytest.mark.shows("end.first-wins")
async def test_three_hundred_tasks_end_once_each_while_workers_are_killed(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    sessions = [await client.create_session() for _ in range(30)]
    async with parts.worker("noted", concurrency=8) as one, parts.worker("noted", concurrency=8):
        tasks = {await session.run_nowait("work", number=n): session for n, session in enumerate(sessions * 10)}
        results = [asyncio.ensure_future(result_of(session, task)) for task, session in tasks.items()]
        for share in (20, 90, 170):
            await asyncio.wait({results[share]})
            await one.kill()
            one.start()
        assert [json.loads(text) for text in await asyncio.gather(*results)] == [2 * n for n in range(300)]
        await one.ready()
    words = [line[0] for line in parts.done_outside()]
    assert set(words) == {str(n) for n in range(300)}
    assert len(words) < 300 + 3 * 8 + 1
    for task, session in tasks.items():
        kinds = await parts.kinds(session, task)
        assert (kinds.count("end"), kinds[-1]) == (1, "end")


async def test_large_inputs_that_gathered_for_a_worker_are_done(client: AsyncLlamaDeployClient, parts: Parts) -> None:
    await client.register_service(ServiceDefinition(service_name="large", description="is not there yet"))
    sessions = [await client.create_session() for _ in range(5)]
    text = '"' * (4 * 1024 * 1024)  # each character takes four in the JSON of the JSON
    tasks = [await session.run_nowait("large", text=text) for session in sessions]
    async with parts.worker("length", "large", concurrency=8):
        for session, task in zip(sessions, tasks, strict=True):
            assert await result_of(session, task) == str(len(text))
