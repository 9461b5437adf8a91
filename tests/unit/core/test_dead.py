"""The list of tasks that failed or are dead."""

from __future__ import annotations

import pytest

from arriero.core import dead, names
from arriero.core.records import TaskRecord
from arriero.types.errors import UnknownTask
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import House, MakeHouse


async def failed(house: House, service: str = "work", message: str = "no") -> TaskRecord:
    worker = await house.worker(service)
    task = await house.submit(await house.core.sessions.create(), service)
    [grant] = await worker.claim()
    await worker.fail(grant, message=message)
    worker.vanish()
    return await house.ended(task)


async def listed(house: House, service: str | None = None) -> list[str]:
    found, following = await house.core.dead.listed(service)
    assert following is None
    return [task.task_id for task in found]


@pytest.mark.shows("end.listed")
async def test_failed_and_dead_tasks_are_listed_with_their_reasons(make_house: MakeHouse) -> None:
    house = await make_house(max_losses=1)
    task = await failed(house)
    worker = await house.worker()
    lost = await house.submit(await house.core.sessions.create())
    await worker.claim()
    worker.vanish()
    await house.core.links.give_back(worker.worker_id, lost=True)
    good = await house.submit(await house.core.sessions.create())
    worker = await house.worker()
    [grant] = await worker.claim()
    await worker.complete(grant)
    await house.ended(good)
    found, _ = await house.core.dead.listed()
    assert [(entry.task_id, entry.status, entry.losses) for entry in found] == [
        (task.id, TaskStatus.FAILED, 0),
        (lost.id, TaskStatus.DEAD, 1),
    ]
    shown = await house.core.dead.show(task.id)
    assert shown == found[0]
    assert shown.error is not None
    assert (shown.error.message, shown.attempts, shown.service) == ("no", 1, "work")


async def test_the_list_comes_in_pages_and_by_service(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [await failed(house, f"s{number % 2}") for number in range(5)]
    assert await listed(house, "s1") == [tasks[1].id, tasks[3].id]
    assert await listed(house, "s2") == []
    first, after = await house.core.dead.listed(limit=3)
    assert after is not None
    rest, none = await house.core.dead.listed(after=after, limit=3)
    assert [task.task_id for task in first + rest] == [task.id for task in tasks]
    assert none is None
    monkeypatch.setattr(dead, "MOST_SEEN", 1)
    monkeypatch.setattr(dead, "PAGE", 1)
    found, after = await house.core.dead.listed("s1")
    assert found == []
    assert after is not None


@pytest.mark.shows("end.listed")
async def test_a_replay_takes_the_task_off_the_list(house: House) -> None:
    task = await failed(house)
    new = await house.core.dead.replay(task.id, "again")
    assert (new.replay_of, new.session_id) == (task.id, task.session_id)
    assert await listed(house) == []
    assert (await house.core.dead.replay(task.id, "again")).created_at == new.created_at
    with pytest.raises(UnknownTask, match="not in the list"):
        await house.core.dead.replay(task.id, "another")


@pytest.mark.shows("end.listed")
async def test_what_is_dropped_leaves_the_list_and_stays_a_task(house: House) -> None:
    task = await failed(house)
    await house.core.dead.drop(task.id)
    await house.core.dead.drop(task.id)
    assert await listed(house) == []
    assert (await house.core.tasks.get(None, task.id)).status is TaskStatus.FAILED
    for unknown in (house.core.dead.show(task.id), house.core.dead.drop("nothing"), house.core.dead.show("nothing")):
        with pytest.raises(UnknownTask):
            await unknown


async def test_a_task_that_went_well_cannot_be_dropped(house: House) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.complete(grant)
    await house.ended(task)
    with pytest.raises(UnknownTask):
        await house.core.dead.drop(task.id)


@pytest.mark.shows("end.listed")
async def test_the_list_forgets_what_is_removed(house: House) -> None:
    task = await failed(house)
    await house.core.sessions.delete(task.session_id)
    assert await house.store.scan(names.DEAD) == []
