"""When a task waits for the disk: counted in groups of commits that were synchronised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from arriero.core.tasks import Submission
from arriero.orchestrators import SimpleOrchestrator
from arriero.state_stores import SqliteStore
from arriero.state_stores.base import Committed, Op
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Hand, House


class NotingStore(SqliteStore):
    """Notes how many changes each commit held and whether it waited for the disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.noted: list[tuple[int, bool]] = []

    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        self.noted.append((len(ops), durable))
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


async def test_a_task_is_on_the_disk_when_the_wait_for_it_has_ended(disk: Disk) -> None:
    house, store = disk
    await house.worker()
    session = await house.core.sessions.create()
    task = await house.core.tasks.run(session, Submission(input="{}", service_id="work"), None, 0.0)
    assert task.status is TaskStatus.QUEUED
    assert store.noted[-1] == (0, True)


async def test_a_task_that_is_not_waited_for_is_on_the_disk_when_it_is_accepted(disk: Disk) -> None:
    house, store = disk
    await house.worker()
    session = await house.core.sessions.create()
    before = store.stats.durable_groups
    await house.submit(session)
    assert store.stats.durable_groups - before == 1
