"""Runs whose workflow has changed: they wait for workers with the steps that they were begun with."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from arriero.core import names
from arriero.core.inbox import Sent
from arriero.core.records import TaskRecord
from arriero.types.errors import AlreadyAnswered, NotStopped
from arriero.types.link import Deliver, Event, Granted
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Hand, House

REASON = "workflow_changed: this run was begun by another version"


async def stopped(house: House) -> tuple[Hand, TaskRecord]:
    """A run of shape ``v1`` that a worker of shape ``v2`` cannot go on with; gives that worker."""
    worker = await house.worker(shape="v1")
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.record(grant, 0, {"ticks": []}, shape="v1")
    worker.vanish()
    await house.core.links.give_back(worker.worker_id, lost=True)
    other = await house.worker(shape="v2")
    [again] = await other.claim()
    assert again.shape == "v1"
    assert await other.wait(again, leave=True, reason=REASON)
    return other, task


def asking(number: int) -> Event:
    return Event(number=number, data=msgspec.Raw(b"{}"), type="Ask", asks=True)


async def answer(house: House, task: TaskRecord, kind: str) -> None:
    await house.core.inbox.send(task.session_id, task.id, Sent("work", kind, msgspec.Raw(b"{}"), kind, None))


async def shown(house: House, task: TaskRecord) -> tuple[TaskStatus, Any]:
    record = await house.core.tasks.show(None, task.id)
    return record.status, record.waits_for


async def woken(house: House, task: TaskRecord, entries: int = 3) -> None:
    """Until the task may be claimed again: its log says lost, parked, woken."""
    async with aclosing(house.store.watch(names.item_log(task.id))) as heads:
        async for head in heads:
            if head.seq == entries:
                return


@pytest.mark.shows("end.waiting")
async def test_it_waits_with_the_reason_and_no_worker_of_other_steps_is_given_it(house: House) -> None:
    other, task = await stopped(house)
    assert await shown(house, task) == (TaskStatus.WAITING, [{"events": [REASON]}])
    assert await other.claim() == []
    assert len(await house.store.scan(names.misfits("work"))) == 1


@pytest.mark.shows("journal.changed")
async def test_it_goes_on_by_itself_when_a_worker_with_its_steps_connects(house: House) -> None:
    other, task = await stopped(house)
    await house.worker(shape="v3")
    first = await house.worker(shape="v1", takes=True)
    await woken(house, task)
    assert await other.claim() == []  # left to the one whose steps they are
    push = await first.delivered.get()
    assert isinstance(push, Granted)
    [grant] = push.grants
    assert (grant.item_id, len(grant.journal)) == (task.id, 1)
    await first.complete(grant, "done")
    assert (await house.ended(task)).status is TaskStatus.COMPLETED
    assert await house.store.scan(names.misfits("work")) == []


async def test_what_is_kept_for_a_worker_goes_to_its_next_claim_or_to_others_when_it_leaves(house: House) -> None:
    other, task = await stopped(house)
    first = await house.worker(shape="v1")
    await woken(house, task)
    assert await other.claim() == []
    [grant] = await first.claim()
    assert grant.item_id == task.id
    await house.core.claims.release(first.link, {grant.item_id: grant.token})
    assert await other.claim() == []
    first.vanish()
    [grant] = await other.claim()
    assert (grant.item_id, grant.shape) == (task.id, "v1")


async def test_an_event_that_came_for_it_does_not_hold_it_with_a_worker_of_other_steps(house: House) -> None:
    other, task = await stopped(house)
    await house.worker(shape="v2", accepts={"Answer": False})
    event = Sent("work", "Answer", msgspec.Raw(b"{}"), "Answer", None)
    await house.core.inbox.send(task.session_id, task.id, event)
    [grant] = await other.claim()
    assert [arrival.seq for arrival in grant.inbox] == [1]
    assert await other.wait(grant, leave=True, reason=REASON, seen=0)
    assert await shown(house, task) == (TaskStatus.WAITING, [{"events": [REASON]}])
    first = await house.worker(shape="v1")
    await woken(house, task, 5)  # once by the event, and once more by the worker
    [grant] = await first.claim()
    assert [arrival.seq for arrival in grant.inbox] == [1]


@pytest.mark.shows("journal.changed")
async def test_resume_lets_any_worker_take_it(house: House) -> None:
    other, task = await stopped(house)
    await house.core.changed.resume(task)
    [grant] = await other.claim()
    assert (grant.item_id, len(grant.journal)) == (task.id, 1)
    assert await other.wait(grant, leave=True, reason=REASON)
    assert (await shown(house, task))[0] is TaskStatus.WAITING


@pytest.mark.shows("journal.changed")
async def test_restart_begins_anew_on_the_steps_of_today(house: House) -> None:
    other, task = await stopped(house)
    await house.core.changed.restart(task)
    [grant] = await other.claim()
    assert (grant.item_id, grant.journal, grant.shape) == (task.id, [], "")
    await other.record(grant, 0, {"ticks": []}, shape="v2")
    await other.complete(grant)
    entries = await house.stream(task)
    assert [entry["kind"] for entry in entries] == ["restarted", "restarted", "end"]
    found = await house.core.history.of(await house.core.tasks.get(None, task.id))
    assert [entry.kind for entry in found.entries].count("restarted") == 1
    assert (await house.store.head(names.journal_log(grant.item_id))).seq == 1


async def test_a_child_that_waits_is_found_with_its_task(house: House) -> None:
    parent = await house.worker("parent")
    task = await house.submit(await house.core.sessions.create(), "parent")
    [grant] = await parent.claim()
    worker = await house.worker(shape="v1")
    call = await parent.call(grant, "work")
    [child] = await worker.claim()
    await worker.record(child, 0, {"ticks": []}, shape="v1")
    assert await worker.wait(child, leave=True, reason=REASON)
    await house.core.changed.restart(task)
    [again] = await worker.claim()
    assert (again.item_id, again.journal) == (child.item_id, [])
    await worker.complete(again, 5)
    assert bytes((await call).value) == b"5"


async def test_what_does_not_wait_for_that_is_neither_resumed_nor_restarted(house: House) -> None:
    worker = await house.worker(shape="v1")
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.record(grant, 0, {"ticks": []}, shape="v1")
    assert await worker.wait(grant, "Answer", leave=True)
    for operation in (house.core.changed.resume, house.core.changed.restart):
        with pytest.raises(NotStopped, match="does not wait because"):
            await operation(task)


@pytest.mark.shows("journal.changed")
async def test_it_may_be_dropped_by_a_cancel(house: House) -> None:
    _, task = await stopped(house)
    await house.core.tasks.cancel(task.session_id, task.id, "a test")
    assert (await house.ended(task)).status is TaskStatus.CANCELLED
    assert await house.store.scan(names.misfits("work")) == []


async def test_it_goes_on_after_the_control_plane_was_started_again(house: House) -> None:
    _, task = await stopped(house)
    core = await house.restart()
    worker = await Hand(core, "work", shape="v1").connect()
    await woken(house, task)
    [grant] = await worker.claim()
    assert grant.item_id == task.id


async def test_a_worker_with_idle_slots_is_given_all_that_fits_it_alone(house: House) -> None:
    first = await house.worker(shape="v1")
    session_ids = [await house.core.sessions.create() for _ in range(4)]
    tasks = [await house.submit(session_id) for session_id in session_ids]
    for grant in await first.claim(4):
        await first.record(grant, 0, {"ticks": []}, shape="v1")
    first.vanish()
    await house.core.links.give_back(first.worker_id, lost=True)
    other = await house.worker(shape="v2")
    again = await house.worker(shape="v1", takes=True)
    assert await other.claim(8) == []
    push = await again.delivered.get()
    assert isinstance(push, Granted)
    assert {grant.item_id for grant in push.grants} == {task.id for task in tasks}


async def test_what_is_kept_for_a_worker_that_does_not_renew_goes_to_others_and_back_when_it_does(house: House) -> None:
    other, task = await stopped(house)
    first = await house.worker(shape="v1")
    await woken(house, task)
    assert await other.claim() == []
    await house.core.links.expire(first.worker_id)
    [grant] = await other.claim()
    assert grant.item_id == task.id
    assert await other.wait(grant, leave=True, reason=REASON)
    assert await first.claim() == []
    async with aclosing(house.store.watch(names.item_log(task.id))) as heads:
        async for head in heads:
            if head.seq == 5:
                break
    [grant] = await first.claim()
    assert grant.item_id == task.id


async def test_an_answer_that_the_steps_of_today_do_not_take_answers_nothing_after_a_restart(house: House) -> None:
    first = await house.worker(shape="v1", accepts={"Yes": True})
    task = await house.submit(await house.core.sessions.create())
    [grant] = await first.claim()
    await first.record(grant, 0, {"ticks": []}, asking(0), shape="v1")
    await answer(house, task, "Yes")
    await first.record(grant, 1, {"ticks": [], "taken": [1]}, shape="v1")
    first.vanish()
    await house.core.links.give_back(first.worker_id, lost=True)
    other = await house.worker(shape="v2", accepts={"Approval": True})
    [again] = await other.claim()
    assert await other.wait(again, leave=True, reason=REASON, seen=1)
    await house.core.changed.restart(task)
    [anew] = await other.claim()
    await other.record(anew, 0, {"ticks": []}, asking(0), shape="v2")
    await answer(house, task, "Approval")
    push = await other.delivered.get()
    assert isinstance(push, Deliver)
    assert [arrival.type for arrival in push.arrivals] == ["Approval"]
    with pytest.raises(AlreadyAnswered):
        await answer(house, task, "Approval")


async def test_an_answer_that_the_steps_of_today_take_is_the_answer_after_a_restart_too(house: House) -> None:
    first = await house.worker(shape="v1", accepts={"Yes": True})
    task = await house.submit(await house.core.sessions.create())
    [grant] = await first.claim()
    await first.record(grant, 0, {"ticks": []}, asking(0), shape="v1")
    await answer(house, task, "Yes")
    first.vanish()
    await house.core.links.give_back(first.worker_id, lost=True)
    other = await house.worker(shape="v2", accepts={"Yes": True})
    [again] = await other.claim()
    assert await other.wait(again, leave=True, reason=REASON, seen=1)
    await house.core.changed.restart(task)
    [anew] = await other.claim()
    assert [arrival.type for arrival in anew.inbox] == ["Yes"]
    await other.record(anew, 0, {"ticks": []}, asking(0), shape="v2")
    with pytest.raises(AlreadyAnswered):
        await answer(house, task, "Yes")
