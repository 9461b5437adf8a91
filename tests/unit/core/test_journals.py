"""Journals of items, and items that are left until they go on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from arriero.core import names
from arriero.core.inbox import Sent
from arriero.core.records import TaskRecord
from arriero.types.errors import AlreadyAnswered, Fenced
from arriero.types.link import Event, Grant
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Hand, House, MakeHouse, event

ACCEPTS = {"Answer": True}


async def begun(house: House, **fields: Any) -> tuple[Hand, TaskRecord, Grant]:
    worker = await house.worker("work", accepts=ACCEPTS)
    task = await house.submit(await house.core.sessions.create(), **fields)
    [grant] = await worker.claim()
    return worker, task, grant


async def lost(house: House, worker: Hand) -> Hand:
    """The worker dies; gives another one."""
    worker.vanish()
    await house.core.links.give_back(worker.worker_id, lost=True)
    return await house.worker("work", accepts=ACCEPTS)


def entries(grant: Grant) -> list[Any]:
    return [msgspec.json.decode(entry) for entry in grant.journal]


async def answer(house: House, task: TaskRecord, value: str = "yes") -> None:
    data = msgspec.json.encode({"response": value})
    sent = Sent("work", "Answer", msgspec.Raw(data), data.decode())
    await house.core.inbox.send(task.session_id, task.id, sent)


def ask(number: int) -> Event:
    return Event(number=number, data=msgspec.Raw(b"{}"), type="Ask", asks=True)


@pytest.mark.shows("claim.brings")
async def test_the_next_worker_gets_what_the_lost_one_had_written(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, {"step": 1}, event(0, "told"))
    await worker.record(grant, 1, {"step": 2})
    other = await lost(house, worker)
    [again] = await other.claim()
    assert (entries(again), again.shape) == ([{"step": 1}, {"step": 2}], "s")
    await other.record(again, 2, {"step": 3})
    await other.complete(again)
    assert await house.told(task) == ["told"]
    assert [entry["kind"] for entry in await house.stream(task)] == ["event", "restarted", "end"]


@pytest.mark.shows("journal.one-commit")
async def test_an_entry_that_is_sent_again_is_there_once_with_its_events(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, "first", event(0, "a"))
    await worker.connect()
    await worker.record(grant, 0, "first", event(0, "a"))
    await worker.record(grant, 1, "second", event(1, "b"))
    await worker.complete(grant)
    assert await house.told(task) == ["a", "b"]
    log = await house.store.read_log(names.journal_log(grant.item_id))
    assert [msgspec.json.decode(entry.value) for entry in log] == ["first", "second"]


async def test_a_worker_that_lost_its_claim_writes_no_journal(house: House) -> None:
    worker, _, grant = await begun(house)
    other = await lost(house, worker)
    await other.claim()
    with pytest.raises(Fenced):
        await worker.record(grant, 0, "late")


@pytest.mark.shows("retry.progress")
async def test_losses_count_anew_once_the_journal_has_grown(make_house: MakeHouse) -> None:
    house = await make_house(max_losses=2)
    worker, task, grant = await begun(house)
    for number in range(4):
        await worker.record(grant, number, number)
        worker = await lost(house, worker)
        [grant] = await worker.claim()
    await worker.complete(grant, "done")
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


@pytest.mark.shows("retry.progress")
async def test_losses_go_on_counting_while_no_step_has_ended(make_house: MakeHouse) -> None:
    house = await make_house(max_losses=3)
    worker, task, grant = await begun(house)
    for number in range(3):
        await worker.record(grant, number, "about to call", durable=False)
        worker = await lost(house, worker)
        [grant] = await worker.claim() or [grant]
    assert (await house.ended(task)).status is TaskStatus.DEAD


@pytest.mark.shows("fencing.restarted", "wait.left")
async def test_an_item_that_is_left_is_claimed_again_when_an_event_comes(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, "asked", ask(0))
    assert await worker.wait(grant, "Answer", leave=True)
    assert await house.store.scan(names.held(worker.worker_id)) == []
    shown = await house.core.tasks.show(task.session_id, task.id)
    assert (shown.status, shown.waits_for) == (TaskStatus.WAITING, [{"events": ["Answer"]}])
    assert await worker.claim() == []
    await answer(house, task)
    with pytest.raises(AlreadyAnswered):
        await answer(house, task, "no")
    [again] = await (await house.worker("work", accepts=ACCEPTS)).claim()
    assert (entries(again), [arrival.seq for arrival in again.inbox]) == (["asked"], [1])
    log = await house.store.read_log(names.stream_log(task.id))
    assert "restarted" not in [msgspec.json.decode(entry.value)["kind"] for entry in log]


async def test_an_item_is_not_left_when_an_event_crosses(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, "asked", ask(0))
    await answer(house, task)
    assert not await worker.wait(grant, "Answer", leave=True, seen=0)
    await worker.complete(grant)
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


@pytest.mark.shows("end.waiting")
async def test_an_item_that_is_left_for_a_time_comes_back_also_after_a_restart(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, "slept")
    assert await worker.wait(grant, leave=True, wake_after=0.05)
    shown = await house.core.tasks.show(task.session_id, task.id)
    assert (shown.status, [list(each) for each in shown.waits_for]) == (TaskStatus.WAITING, [["until"]])
    core = await house.restart()
    worker = Hand(core, "work", accepts=ACCEPTS)
    await worker.connect()
    await core.journals.wake(grant.item_id)
    [again] = await worker.claim()
    assert entries(again) == ["slept"]
    assert await house.store.scan(names.TIMERS) == []


@pytest.mark.shows("deadline.durable")
async def test_an_item_that_is_left_ends_with_its_deadline_or_when_it_is_cancelled(house: House) -> None:
    worker, task, grant = await begun(house, deadline=0.05)
    await worker.record(grant, 0, "asked")
    await worker.wait(grant, "Answer", leave=True, wake_after=100.0)
    assert (await house.ended(task)).status is TaskStatus.TIMED_OUT
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, "asked")
    await worker.wait(grant, "Answer", leave=True)
    await house.core.tasks.cancel(task.session_id, task.id, "a test")
    assert (await house.ended(task)).status is TaskStatus.CANCELLED
    assert await house.store.scan(names.TIMERS) == []


async def test_a_question_outside_of_the_journal_is_asked_again(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, "begun")
    await house.core.claims.emit(worker.link, grant.item_id, grant.token, [ask(0)])
    worker = await lost(house, worker)
    [again] = await worker.claim()
    await house.core.claims.emit(worker.link, again.item_id, again.token, [ask(0)])
    await answer(house, task)
    with pytest.raises(AlreadyAnswered):
        await answer(house, task)


async def test_the_journal_goes_with_its_session(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, "begun")
    await house.core.sessions.delete(task.session_id)
    assert (await house.store.head(names.journal_log(grant.item_id))).seq == 0
