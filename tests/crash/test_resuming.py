"""Workflows that go on behind the last step that had ended, when what ran them is killed."""

from __future__ import annotations

import json

import pytest

from arriero import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.types.errors import AlreadyAnswered, AlreadyEnded
from arriero.types.tasks import TaskStatus
from tests.crash.parts import SHORT, Parts, result_of
from tests.crash.resuming import HERE, Approval
from tests.harness import Core, Worker


@pytest.fixture
def core(lasting_core: Core) -> Core:
    return lasting_core


def worker(parts: Parts, name: str, service: str) -> Worker:
    return parts.worker(name, service, where=HERE)


@pytest.mark.shows("journal.ahead")
async def test_a_killed_worker_s_run_goes_on_where_it_stood(client: AsyncLlamaDeployClient, parts: Parts) -> None:
    session = await client.create_session()
    async with worker(parts, "Steps", "steps") as first:
        task = await session.run_nowait("steps", count=4, at=2, port=parts.gate.port)
        await parts.gate.arrived("steps")
        async with worker(parts, "Steps", "steps") as second:
            await first.kill()
            await parts.gate.open("steps")
            assert json.loads(await result_of(session, task)) == [0, 1, 2, 3]
    one, two = str(first.pid), str(second.pid)
    expected = [["step0", one], ["step1", one], ["step2", one], ["step2", two], ["step3", two]]
    assert parts.done_outside() == expected
    entries = await parts.entries(session, task)
    told = [(entry["kind"], entry["data"].get("number")) for entry in entries if entry.get("type") == "Next"]
    assert [number for _, number in told] == [0, 1, 2, 2, 3]
    assert [entry["kind"] for entry in entries].count("restarted") == 1


async def test_a_run_goes_on_after_core_and_worker_were_killed(client: AsyncLlamaDeployClient, parts: Parts) -> None:
    async with Core(env=SHORT) as core, core.client(timeout=30.0) as its_client:
        session = await its_client.create_session()
        own = Parts(core, parts.gate, parts.effects)
        async with worker(own, "Steps", "steps") as first:
            task = await session.run_nowait("steps", count=3, at=1, port=parts.gate.port)
            await parts.gate.arrived("steps")
            await core.kill()
            await first.kill()
        core.start()
        await core.ready()
        async with worker(own, "Steps", "steps"):
            await parts.gate.open("steps")
            assert json.loads(await result_of(session, task)) == [0, 1, 2]
    assert [word for word, _ in own.done_outside()] == ["step0", "step1", "step1", "step2"]


@pytest.mark.shows("key.again")
async def test_an_effect_with_a_key_is_had_once_when_the_worker_is_killed_behind_it(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with worker(parts, "Pays", "pays") as first:
        task = await session.run_nowait("pays", port=parts.gate.port)
        await parts.gate.arrived("paid")
        async with worker(parts, "Pays", "pays") as second:
            await first.kill()
            await parts.gate.open("paid")
            key = await result_of(session, task)
    assert parts.done_outside() == [[key, str(first.pid)], [key, str(second.pid)]]
    assert [path.stem for path in parts.effects.parent.glob("*.paid")] == [key]


async def waiting(session: AsyncSessionClient, task: str) -> None:
    """Until the task has asked."""
    async for event in session.get_task_result_stream(task):
        if "sure?" in str(event):
            return


@pytest.mark.shows("wait.left")
async def test_a_run_that_waits_for_a_person_outlives_its_worker(client: AsyncLlamaDeployClient, parts: Parts) -> None:
    session = await client.create_session()
    async with worker(parts, "Asking", "asking") as first:
        task = await session.run_nowait("asking")
        await waiting(session, task)
        await first.kill()
    assert (await session.status(task)).status in (TaskStatus.WAITING, TaskStatus.QUEUED, TaskStatus.RUNNING)
    async with worker(parts, "Asking", "asking"):
        await session.send_event("asking", task, Approval(yes=True))
        with pytest.raises((AlreadyAnswered, AlreadyEnded)):  # it may have ended in between
            await session.send_event("asking", task, Approval(yes=False))
        assert json.loads(await result_of(session, task)) is True
    assert [word for word, _ in parts.done_outside()] == ["ask", "answered"]


@pytest.mark.shows("again.failed-step")
async def test_an_attempt_that_failed_is_followed_by_one_of_the_failed_step_alone(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with worker(parts, "Flaky", "flaky"):
        task = await session.run_nowait("flaky")
        assert await result_of(session, task) == "2"
    assert [word for word, _ in parts.done_outside()] == ["begin", "end", "end"]
    assert (await session.status(task)).attempts == 2
