"""Large values are stored once, wherever they are needed, and go with what they belong to."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arriero.control_plane.answers import result_view
from arriero.core import names, records
from arriero.orchestrators import BaseOrchestrator
from arriero.state_stores import SqliteStore
from arriero.state_stores.base import Delete
from arriero.types.errors import StoreDamaged
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import TaskDefinition, TaskResult, TaskStatus
from tests.unit.core.conftest import House, MakeHouse

LARGE = 1000
TEXT = json.dumps({"text": "ü\n" * LARGE})
VALUE = ["v" * 100] * 50


class Twice(BaseOrchestrator):
    """Orders two services, the second with a large input of its own, and notes what it saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def get_next_messages(
        self, task_def: TaskDefinition, state: dict[str, Any]
    ) -> tuple[list[QueueMessage], dict[str, Any]]:
        self.seen.append(task_def.input)
        step = state.get(task_def.task_id, 0)
        orders = {
            0: [QueueMessage(type="work", action=ActionTypes.NEW_TASK, data={})],
            1: [QueueMessage(type="work", action=ActionTypes.NEW_TASK, data={"input": TEXT[::-1]})],
        }
        return orders.get(step, []), state

    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, result.task_id: state.get(result.task_id, 0) + 1}


async def values(house: House) -> list[str]:
    return [document.key for document in await house.store.scan(names.VALUES)]


@pytest.mark.shows("default.large")
async def test_a_large_task_is_the_same_as_a_small_one_to_everybody(make_house: MakeHouse) -> None:
    house = await make_house(large_value=LARGE)
    worker = await house.worker()
    session = await house.core.sessions.create()
    task = await house.submit(session, text=TEXT)
    assert await values(house) == [f"{task.id}/input"]
    assert len((await house.store.scan(names.TASKS))[0].value) < LARGE
    (shown,), _ = await house.core.listing.tasks(session, "", 10)
    assert shown.input == (await house.core.tasks.show(session, task.id)).input == TEXT
    (grant,) = await worker.claim()
    assert grant.input == TEXT
    await worker.complete(grant, VALUE, context="c" * 2 * LARGE)
    assert await values(house) == [f"{task.id}/input", f"{task.id}/value"]
    assert len((await house.store.scan(names.TASKS))[0].value) < LARGE
    ended = await house.ended(task)
    assert msgspec.json.decode(result_view(ended).value) == VALUE
    again = await house.core.tasks.wait(await house.core.tasks.get(session, task.id), 0)
    assert msgspec.json.decode(again.value) == VALUE
    assert (await house.submit(session, text=TEXT, task_id=task.id)).id == task.id
    await house.core.sessions.delete(session)
    assert await values(house) == []


async def test_it_survives_a_restart_and_is_granted_again(make_house: MakeHouse) -> None:
    house = await make_house(large_value=LARGE)
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create(), text=TEXT)
    await worker.claim()
    await house.restart()
    worker = await house.worker()
    await house.core.links.returns.of_item((await _item(house, task.id)), lost=False, why="a test")
    (grant,) = await worker.claim()
    assert (grant.input, grant.epoch) == (TEXT, 2)
    await worker.complete(grant, 1)
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


async def _item(house: House, item_id: str) -> Any:
    loaded = await house.core.kernel.load(records.ITEM, names.ITEMS, item_id)
    assert loaded is not None
    return loaded.record


async def test_an_orchestrator_sees_the_input_and_its_own_large_orders_arrive(make_house: MakeHouse) -> None:
    orchestrator = Twice()
    house = await make_house(orchestrator, large_value=LARGE)
    worker = await house.worker()
    session = await house.core.sessions.create()
    task = await house.submit(session, text=TEXT)
    (first,) = await worker.claim()
    await worker.complete(first, 1)
    (second,) = await worker.claim()
    assert (first.input, second.input) == (TEXT, TEXT[::-1])
    assert await values(house) == [f"{task.id}/2/order", f"{task.id}/input"]
    await worker.complete(second, VALUE)
    assert msgspec.json.decode((await house.ended(task)).value) == VALUE
    assert orchestrator.seen == [TEXT] * 3
    await house.core.sessions.delete(session)
    assert await values(house) == []


async def test_a_cancelled_task_keeps_its_input_until_it_goes(make_house: MakeHouse) -> None:
    house = await make_house(large_value=LARGE)
    await house.worker()
    session = await house.core.sessions.create()
    task = await house.submit(session, text=TEXT)
    await house.core.tasks.cancel(session, task.id, "a test")
    assert (await house.core.tasks.show(session, task.id)).input == TEXT
    await house.core.sessions.delete(session)
    assert await values(house) == []


async def test_a_value_that_is_missing_harms_its_task_alone(make_house: MakeHouse) -> None:
    house = await make_house(large_value=LARGE)
    worker = await house.worker(parallel=True)
    session = await house.core.sessions.create()
    bad = await house.submit(session, text=TEXT)
    good = await house.submit(session, text=TEXT)
    await house.store.commit([Delete(names.VALUES, f"{bad.id}/input")])
    grants = await worker.claim(2)
    assert [grant.task_id for grant in grants] == [good.id]
    with pytest.raises(StoreDamaged, match=f"input of '{bad.id}'"):
        await house.core.tasks.show(session, bad.id)


@pytest.mark.shows("default.large")
async def test_a_large_input_is_written_to_the_disk_once(make_house: MakeHouse, tmp_path: Path) -> None:
    size = 2 * 1024 * 1024
    written = {}
    for name, limit in (("apart", 256 * 1024), ("within", 64 * 1024 * 1024)):
        path = tmp_path / f"{name}.db"
        house = await make_house(store=SqliteStore(path), large_value=limit)
        with closing(sqlite3.connect(path)) as reader:  # keeps the log from being cut short
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM meta").fetchone()
            worker = await house.worker()
            task = await house.submit(await house.core.sessions.create(), text=json.dumps("x" * size))
            (grant,) = await worker.claim()
            await worker.complete(grant, 1)
            await house.ended(task)
            written[name] = len(path.with_name(f"{name}.db-wal").read_bytes().rstrip(b"\0"))
    assert written["apart"] < 1.2 * size
    assert written["within"] > 1.8 * size


async def test_who_asks_what_a_task_waits_for_does_not_have_its_input_read(make_house: MakeHouse) -> None:
    house = await make_house(large_value=LARGE)
    await house.worker()
    task = await house.submit(await house.core.sessions.create(), text=TEXT)
    await house.store.commit([Delete(names.VALUES, f"{task.id}/input")])
    assert (await house.core.show(None, task.id, with_input=False)).status is TaskStatus.QUEUED
    with pytest.raises(StoreDamaged):
        await house.core.show(None, task.id)
