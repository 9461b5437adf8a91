"""Workflows that are changed while runs of them wait, in real processes."""

from __future__ import annotations

import json

import pytest

from arriero import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.types.errors import NotStopped, WorkflowChanged
from arriero.types.tasks import TaskStatus
from tests.crash.parts import Parts, result_of
from tests.crash.resuming import HERE, Approval
from tests.harness import Core, Worker


@pytest.fixture
def core(lasting_core: Core) -> Core:
    return lasting_core


def worker(parts: Parts, name: str) -> Worker:
    return parts.worker(name, "asking", where=HERE)


async def asked(session: AsyncSessionClient, task: str) -> None:
    async for event in session.get_task_result_stream(task):
        if "sure?" in str(event):
            return


async def waits_for_its_version(parts: Parts, session: AsyncSessionClient) -> str:
    """A run that was begun by one version, and was given to a worker with another one; gives the task's id."""
    async with worker(parts, "Asking") as first:
        task = await session.run_nowait("asking")
        await asked(session, task)
        await first.kill()
    return task


async def told(session: AsyncSessionClient, task: str) -> list[str]:
    return [entry.kind for entry in (await session.history(task)).entries]


async def stopped(session: AsyncSessionClient, task: str, after: int = 0) -> str:
    """Until the run was left by a worker of another version; gives the reason that is shown."""
    while True:
        entries = [entry for entry in (await session.history(task)).entries if entry.kind == "parked"]
        if len(entries) > after and entries[-1].reason.startswith("workflow_changed"):
            return str((await session.status(task)).waits_for[0]["events"][0])


@pytest.mark.shows("journal.changed")
async def test_a_run_waits_for_a_worker_with_its_steps_and_goes_on_when_it_comes(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    task = await waits_for_its_version(parts, session)
    async with worker(parts, "AskingOtherwise"):
        reason = await stopped(session, task)
        assert "begun by another version" in reason
        assert (await session.status(task)).status is TaskStatus.WAITING
        async with worker(parts, "Asking") as back:
            await session.send_event("asking", task, Approval(yes=True))
            assert json.loads(await result_of(session, task)) is True
    effects = parts.done_outside()
    assert [word for word, _ in effects] == ["ask", "answered"]
    assert effects[1][1] == str(back.pid)
    kinds = await told(session, task)
    assert [kind for kind in kinds if kind in ("lost", "parked", "woken")][:3] == ["lost", "parked", "woken"]


async def test_an_answer_that_comes_before_the_worker_of_other_steps_waits_for_one_that_can_take_it(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    task = await waits_for_its_version(parts, session)
    await session.send_event("asking", task, Approval(yes=True))
    async with worker(parts, "AskingOtherwise"):
        await stopped(session, task)
        assert (await session.status(task)).status is TaskStatus.WAITING
    async with worker(parts, "Asking"):
        assert json.loads(await result_of(session, task)) is True
    assert [word for word, _ in parts.done_outside()] == ["ask", "answered"]


@pytest.mark.shows("journal.changed")
async def test_a_run_that_is_restarted_begins_anew_on_the_version_of_today(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    task = await waits_for_its_version(parts, session)
    async with worker(parts, "AskingOtherwise"):
        await stopped(session, task)
        await session.restart(task)
        await session.send_event("asking", task, Approval(yes=False))
        assert json.loads(await result_of(session, task)) is False
        with pytest.raises(NotStopped):
            await session.restart(task)
    assert [word for word, _ in parts.done_outside()] == ["ask", "ask", "taken"]
    assert "restarted" in await told(session, task)


async def test_a_run_that_is_resumed_on_other_steps_waits_again_and_is_dropped_by_a_cancel(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    task = await waits_for_its_version(parts, session)
    async with worker(parts, "AskingOtherwise"):
        await stopped(session, task)
        await session.resume(task)
        await stopped(session, task, after=1)
        assert (await session.cancel(task)).status is TaskStatus.CANCELLED
    assert [word for word, _ in parts.done_outside()] == ["ask"]


@pytest.mark.shows("end.fork")
async def test_a_fork_runs_what_came_before_no_more_and_needs_the_same_steps(
    client: AsyncLlamaDeployClient, parts: Parts
) -> None:
    session = await client.create_session()
    async with worker(parts, "Asking"):
        task = await session.run_nowait("asking")
        await asked(session, task)
        await session.send_event("asking", task, Approval(yes=True))
        assert json.loads(await result_of(session, task)) is True
        fork = await session.fork(task, after_step="ask")
        await asked(session, fork)
        await session.send_event("asking", fork, Approval(yes=False))
        assert json.loads(await result_of(session, fork)) is False
        assert (await session.status(fork)).forked_from == task
    assert [word for word, _ in parts.done_outside()] == ["ask", "answered", "answered"]
    async with worker(parts, "AskingOtherwise"):
        with pytest.raises(WorkflowChanged):
            await session.fork(task, after_step=1)
        replay = await session.replay(task)
        await asked(session, replay)
    assert [word for word, _ in parts.done_outside()][3:] == ["ask"]
