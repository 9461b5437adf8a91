"""Workers that are killed while a workflow waits for its child, or has had an answer."""

import asyncio

import pytest
from workflows.events import HumanResponseEvent

from arriero import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.types.errors import TaskDead
from tests.crash.parts import Parts, result_of
from tests.crash.test_workers import start_again_and_again
from tests.harness import Core


@pytest.fixture
def core(lasting_core: Core) -> Core:
    return lasting_core


async def runs_again(session: AsyncSessionClient, task: str) -> None:
    """Wait until the stream says that another run began."""
    async for entry in session.follow(task):
        if entry.kind == "restarted":
            return


@pytest.mark.shows("again.children")
async def test_a_parent_that_runs_again_finds_its_child_at_work(client: AsyncLlamaDeployClient, parts: Parts) -> None:
    session = await client.create_session()
    async with parts.worker() as child, parts.worker("Delegating", service="delegating") as first:
        task = await parts.at_gate(session, "a", service="delegating")
        visitor = await parts.gate.arrived("a")
        async with parts.worker("Delegating", service="delegating") as second:
            await first.kill()
            await runs_again(session, task)
            parts.gate.let(visitor)
            assert await result_of(session, task) == "through a"
            assert parts.done_outside() == [
                ["delegated", str(first.pid)],
                ["a", str(child.pid)],
                ["delegated", str(second.pid)],
            ]


async def test_a_child_of_a_killed_worker_is_done_by_another_for_the_same_parent(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker("Delegating", service="delegating"), parts.worker() as first:
        task = await parts.at_gate(session, "a", service="delegating")
        await parts.gate.arrived("a")
        async with parts.worker() as second:
            await first.kill()
            await parts.gate.open("a")
            assert await result_of(session, task) == "through a"
            assert [line[1] for line in parts.done_outside() if line[0] == "a"] == [str(first.pid), str(second.pid)]
            assert [line[0] for line in parts.done_outside()].count("delegated") == 1


@pytest.mark.shows("event.stored")
async def test_an_answer_reaches_the_run_that_follows_a_killed_worker(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker("Asking", service="asking") as first:
        task = await session.run_nowait("asking", port=parts.gate.port, name="a")
        async for entry in session.follow(task):
            if entry.type == "InputRequiredEvent":
                break
        await session.send_event("asking", task, HumanResponseEvent(response="well"))  # type: ignore[call-arg]  # events take any
        await parts.gate.arrived("a")
        await first.kill()
        async with parts.worker("Asking", service="asking"):
            await parts.gate.open("a")
            assert await result_of(session, task) == "well"
    assert [word for word, _ in parts.done_outside()] == ["answered", "answered"]
    told = [entry.type async for entry in session.follow(task) if entry.kind == "event"]
    assert "UnhandledEvent" not in told


async def test_a_parent_that_kills_every_worker_behind_its_child_is_dead(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with parts.worker(), parts.worker("Doomed", service="doomed") as worker:
        living = asyncio.ensure_future(start_again_and_again(worker))
        with pytest.raises(TaskDead, match="5 workers of service 'doomed' were lost"):
            await session.run("doomed")
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
    assert [word for word, _ in parts.done_outside()] == ["doomed"] * 5
