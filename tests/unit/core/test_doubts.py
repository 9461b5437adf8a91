"""Commits that fail although they took effect, and changes that come between a look and a commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from arriero.core import names
from arriero.core.doubts import SOON
from arriero.types.errors import StoreUnavailable
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import event
from tests.unit.core.gates import puts, touches
from tests.unit.core.test_inbox import ACCEPTS, asked, sent
from tests.unit.core.test_races import GatedHouse, gated, next_grants


@pytest.fixture
async def house() -> AsyncIterator[GatedHouse]:
    house = await gated(link_grace=0.0)
    yield house
    await house.core.aclose()


async def test_a_task_whose_acceptance_is_in_doubt_is_done(house: GatedHouse) -> None:
    worker = await house.worker()
    await worker.claim()
    session = await house.core.sessions.create()
    house.store.doubt(puts("tasks", session))
    with pytest.raises(StoreUnavailable):
        await house.submit(session, task_id="t")
    task = await house.submit(session, task_id="t")
    [grant] = await next_grants(house, worker)
    await worker.complete(grant)
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


async def test_a_claim_that_is_in_doubt_goes_back(house: GatedHouse) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    house.store.doubt(puts("items", "running"))
    with pytest.raises(StoreUnavailable):
        await worker.claim()
    [grant] = await next_grants(house, worker)
    assert (grant.task_id, grant.epoch) == (task.id, 2)


@pytest.mark.shows("journal.one-commit")
async def test_an_entry_that_is_in_doubt_is_written_once(house: GatedHouse) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.record(grant, 0, {"ticks": []}, event(0, "a"))
    house.store.doubt(touches("journal"))
    with pytest.raises(StoreUnavailable):
        await worker.record(grant, 1, {"ticks": [1]}, event(1, "b"))
    await worker.record(grant, 1, {"ticks": [1]}, event(1, "b"))
    assert (await house.store.head(names.journal_log(task.id))).seq == 2
    house.store.doubt(touches("stream"))
    with pytest.raises(StoreUnavailable):
        await worker.emit(grant, "c", first=2)
    await worker.emit(grant, "c", first=2)
    await worker.complete(grant)
    assert await house.told(task) == ["a", "b", "c"]


async def test_a_parent_hears_of_a_child_whose_end_is_in_doubt(house: GatedHouse) -> None:
    parent, child = await house.worker(), await house.worker("below")
    await house.submit(await house.core.sessions.create())
    [grant] = await parent.claim()
    outcome = await parent.call(grant, "below")
    [below] = await child.claim()
    house.store.doubt(puts("items", "completed"))
    with pytest.raises(StoreUnavailable):
        await child.complete(below, 7)
    async with asyncio.timeout(SOON + 5):
        assert bytes((await outcome).value) == b"7"


async def test_an_answer_that_is_in_doubt_reaches_the_run(house: GatedHouse) -> None:
    worker = await house.worker("ask", accepts=ACCEPTS)
    task = await house.submit(await house.core.sessions.create(), "ask")
    [grant] = await worker.claim()
    await asked(worker, grant)
    house.store.doubt(touches("inbox"))
    with pytest.raises(StoreUnavailable):
        await house.core.inbox.send(task.session_id, task.id, sent(key="k"))
    await house.core.inbox.send(task.session_id, task.id, sent(key="k"))
    async with asyncio.timeout(SOON + 5):
        assert [arrival.seq for arrival in (await worker.delivered.get()).arrivals] == [1]


async def test_a_cancel_that_is_in_doubt_stops_the_worker(house: GatedHouse) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    house.store.doubt(puts("tasks", "cancelled"))
    with pytest.raises(StoreUnavailable):
        await house.core.tasks.cancel(task.session_id, task.id, "enough")
    async with asyncio.timeout(SOON + 5):
        assert (await worker.stops.get()).token == grant.token


async def test_an_event_that_crosses_the_loss_of_its_worker_does_not_hold_the_item_there(house: GatedHouse) -> None:
    worker = await house.worker("ask", accepts=ACCEPTS)
    other = await house.worker("ask", accepts=ACCEPTS)
    await other.claim()
    task = await house.submit(await house.core.sessions.create(), "ask")
    [grant] = await worker.claim()
    await asked(worker, grant)
    gate = house.store.hold(touches("ready"))
    worker.vanish()
    await gate.arrived.wait()
    await house.core.inbox.send(task.session_id, task.id, sent())
    gate.open.set()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        claiming = group.create_task(_claimed(house, other))
    [again] = claiming.result()
    assert (again.item_id, [arrival.seq for arrival in again.inbox]) == (task.id, [1])


async def _claimed(house: GatedHouse, worker: object) -> list[object]:
    subscription = await house.queue.subscribe("llama_deploy.ask")
    async for delivery in subscription:
        await delivery.ack()
        if grants := await worker.claim(8):  # type: ignore[attr-defined]  # a hand
            return grants
    raise AssertionError("no ring came")


async def test_a_claim_that_meets_the_end_of_its_task_gives_nothing_and_breaks_nothing(house: GatedHouse) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await house.core.claims.release(worker.link, {grant.item_id: grant.token})
    gate = house.store.hold(puts("items", "running"))
    claiming = asyncio.ensure_future(worker.claim())
    await gate.arrived.wait()
    await house.core.tasks.cancel(task.session_id, task.id, "enough")
    gate.open.set()
    assert await claiming == []
