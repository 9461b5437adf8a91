"""Events from outside that come between the reading of an item and its change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from arriero.core import names
from arriero.core.inbox import Sent
from arriero.core.records import TaskRecord
from tests.unit.core.gates import removes
from tests.unit.core.test_races import GatedHouse, gated, next_grants


@pytest.fixture
async def house() -> AsyncIterator[GatedHouse]:
    house = await gated(link_grace=0.0)
    yield house
    await house.core.aclose()


async def nudge(house: GatedHouse, task: TaskRecord) -> None:
    event = Sent("work", "Nudge", msgspec.Raw(b"{}"), "Nudge")
    await house.core.inbox.send(task.session_id, task.id, event)


async def test_an_event_that_comes_as_its_worker_is_lost_does_not_leave_the_item_with_nobody(
    house: GatedHouse,
) -> None:
    worker = await house.worker(accepts={"Nudge": False})
    task = await house.submit(await house.core.sessions.create())
    await worker.claim()
    gate = house.store.hold(removes(names.held(worker.worker_id)))
    worker.vanish()
    await gate.arrived.wait()
    await nudge(house, task)
    gate.open.set()
    async with asyncio.timeout(5):
        [grant] = await next_grants(house, await house.worker(accepts={"Nudge": False}))
    assert (grant.task_id, len(grant.inbox)) == (task.id, 1)


async def test_an_event_that_comes_as_the_next_attempt_is_due_does_not_prevent_it(house: GatedHouse) -> None:
    worker = await house.worker(accepts={"Nudge": False})
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.fail(grant, retryable=True)
    gate = house.store.hold(removes(names.TIMERS))
    await gate.arrived.wait()
    await nudge(house, task)
    gate.open.set()
    async with asyncio.timeout(5):
        [again] = await next_grants(house, worker)
    assert (again.task_id, len(again.inbox)) == (task.id, 1)


async def test_a_run_that_an_event_has_woken_is_not_queued_twice_when_its_time_comes(house: GatedHouse) -> None:
    worker = await house.worker(accepts={"Nudge": False})
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    assert await worker.wait(grant, "Nudge", leave=True, wake_after=60.0)
    await nudge(house, task)
    await house.core.journals.wake(grant.item_id)
    assert house.core.kernel.backlog.count("work") == 1
