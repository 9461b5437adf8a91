"""What is stored is damaged: the task that it belongs to fails, what can be known otherwise is put back."""

from __future__ import annotations

import asyncio

import pytest

from arriero.core import names
from arriero.core.mending import Mending
from arriero.core.records import TaskRecord
from arriero.state_stores.base import Delete, Put
from arriero.types.errors import StoreDamaged
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import House

NO_JSON = b"{no json"


async def failed_as_damaged(house: House, task: TaskRecord) -> None:
    async with asyncio.timeout(5):
        ended = await house.ended(task)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (TaskStatus.FAILED, "store_damaged")


async def test_a_task_whose_record_is_damaged_fails_and_holds_up_nobody(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    damaged, after = await house.submit(session), await house.submit(session)
    await house.store.commit([Put(names.TASKS, damaged.id, NO_JSON)])
    with pytest.raises(StoreDamaged):
        await house.core.tasks.get(None, damaged.id)
    assert await worker.claim() == []
    await failed_as_damaged(house, damaged)
    [grant] = await worker.claim()
    assert grant.task_id == after.id


async def test_a_task_whose_item_is_gone_fails_and_holds_up_nobody(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    damaged, after = await house.submit(session), await house.submit(session)
    await house.store.commit([Delete(names.ITEMS, damaged.id)])
    assert await worker.claim() == []
    await failed_as_damaged(house, damaged)
    [grant] = await worker.claim()
    assert grant.task_id == after.id


async def test_the_order_of_a_session_is_put_back(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    tasks = [await house.submit(session) for _ in range(3)]
    [grant] = await worker.claim()
    await house.store.commit([Put(names.LANES, names.lane(session, "work"), NO_JSON)])
    for task in tasks:
        assert grant.task_id == task.id
        await worker.complete(grant)
        await house.ended(task)
        [grant] = await worker.claim() or [grant]
    assert await house.store.scan(names.LANES) == []
    assert await house.store.scan(names.lane_queue(names.lane(session, "work"))) == []


async def test_what_is_stored_twice_is_put_back(house: House) -> None:
    """After a start that found damage: what is ready, due and held, whose worker is known, what a session has."""
    worker = await house.worker()
    sessions = [await house.core.sessions.create() for _ in range(3)]
    held = await house.submit(sessions[0])
    await worker.claim()
    ready = await house.submit(sessions[1], deadline=50.0)
    behind = await house.submit(sessions[1])
    done = await house.submit(sessions[2])
    [first, *_] = await worker.claim(2)
    places = [
        *((names.held(worker.worker_id), held.id), (names.WORKERS, worker.worker_id), (names.SESSIONS, sessions[1])),
        *((names.TIMERS, document.key) for document in await house.store.scan(names.TIMERS)),
        *((names.ready("work"), document.key) for document in await house.store.scan(names.ready("work"))),
        *((names.LANES, document.key) for document in await house.store.scan(names.LANES)),
        *(
            (names.tasks_of(each), names.dated_key(task.created_at, task.id))
            for each, task in zip(sessions[1:], (ready, done), strict=True)
        ),
        (names.lane_queue(names.lane(sessions[1], "work")), names.place(1)),
    ]
    before = {place: await house.store.get(*place) for place in places}
    assert all(before.values())
    await house.store.commit([Delete(*place) for place in places])
    await Mending(house.core.kernel).all()
    for place in places:
        assert await house.store.get(*place) is not None, place
    assert behind.id != first.task_id
