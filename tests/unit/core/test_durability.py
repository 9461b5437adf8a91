"""When a task waits for the disk: counted in groups of commits that were synchronised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from arriero.core import names
from arriero.core.tasks import Submission
from arriero.orchestrators import SimpleOrchestrator
from arriero.state_stores import SqliteStore
from arriero.state_stores.base import Append, Committed, Op, Put
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Hand, House


class NotingStore(SqliteStore):
    """Notes how many changes each commit held and whether it waited for the disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.noted: list[tuple[int, bool]] = []
        self.written: list[list[Op]] = []

    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        self.noted.append((len(ops), durable))
        self.written.append(list(ops))
        return await super().commit(ops, durable=durable)


Disk = tuple[House, NotingStore]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    async with NotingStore(tmp_path / "state.db") as store:
        house = House(store, ControlPlaneConfig(), SimpleOrchestrator(0, None))
        async with house.core:
            yield house, store


async def serve_one(house: House, worker: Hand) -> None:
    subscription = await house.queue.subscribe("llama_deploy.work")
    grants = await worker.claim()
    while not grants:
        await (await anext(subscription)).ack()
        grants = await worker.claim()
    await subscription.aclose()
    await worker.complete(grants[0], 1)


async def test_a_task_that_is_waited_for_waits_for_the_disk_once(disk: Disk) -> None:
    house, store = disk
    worker = await house.worker()
    await worker.claim()
    session = await house.core.sessions.create()
    before = store.stats.durable_groups
    submission = Submission(input="{}", service_id="work")
    task, _ = await asyncio.gather(house.core.tasks.run(session, submission, None, 30), serve_one(house, worker))
    assert task.status is TaskStatus.COMPLETED
    assert store.stats.durable_groups - before == 1


@pytest.mark.shows("accept.disk")
async def test_a_task_is_on_the_disk_when_the_wait_for_it_has_ended(disk: Disk) -> None:
    house, store = disk
    await house.worker()
    session = await house.core.sessions.create()
    task = await house.core.tasks.run(session, Submission(input="{}", service_id="work"), None, 0.0)
    assert task.status is TaskStatus.QUEUED
    assert store.noted[-1] == (0, True)


@pytest.mark.shows("accept.disk")
async def test_a_task_that_is_not_waited_for_is_on_the_disk_when_it_is_accepted(disk: Disk) -> None:
    house, store = disk
    await house.worker()
    session = await house.core.sessions.create()
    before = store.stats.durable_groups
    await house.submit(session)
    assert store.stats.durable_groups - before == 1


def places(ops: list[Op]) -> set[str]:
    """The collections and logs that a commit adds to."""
    return {op.collection if isinstance(op, Put) else op.log for op in ops if isinstance(op, Put | Append)}


def size(ops: list[Op]) -> int:
    puts = sum(len(op.value) for op in ops if isinstance(op, Put))
    return puts + sum(len(value) for op in ops if isinstance(op, Append) for value in op.values)


@pytest.mark.shows("accept.one-commit")
async def test_a_task_its_item_and_its_place_in_the_session_are_one_commit(disk: Disk) -> None:
    house, store = disk
    await house.worker()
    session = await house.core.sessions.create()
    store.written.clear()
    task = await house.submit(session)
    [ops] = store.written
    assert {names.TASKS, names.ITEMS, names.tasks_of(session)} <= places(ops)
    assert (await house.core.listing.session(session)).task_ids == [task.id]


@pytest.mark.shows("accept.cost")
async def test_accepting_a_task_costs_as_much_when_its_session_has_many(disk: Disk) -> None:
    house, store = disk
    await house.worker()
    session = await house.core.sessions.create()
    store.written.clear()
    for number in range(200):
        await house.submit(session, task_id=f"t{number:03}")
    second, last = store.written[1], store.written[-1]
    assert len(second) == len(last)
    assert size(last) < size(second) + 20  # times have more digits or fewer
