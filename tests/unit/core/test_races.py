"""What happens when two things happen at once, or when the store fails in between."""

# ruff: noqa: SLF001  # what is left behind in memory can only be seen from inside

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from arriero.core import names, records
from arriero.core.records import TaskRecord
from arriero.orchestrators import BaseOrchestrator, SimpleOrchestrator
from arriero.state_stores.base import Put
from arriero.types.errors import StoreUnavailable, UnknownSession, UnknownTask
from arriero.types.link import Grant, Hello
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskDefinition, TaskResult, TaskStatus
from tests.unit.core.conftest import Hand, House
from tests.unit.core.gates import GatedStore, puts, removes, touches


class GatedHouse(House):
    store: GatedStore


async def gated(orchestrator: BaseOrchestrator | None = None, **settings: Any) -> GatedHouse:
    store = GatedStore()
    await store.open()
    house = GatedHouse(store, ControlPlaneConfig(**settings), orchestrator or SimpleOrchestrator(3, None))
    await house.core.start()
    return house


@pytest.fixture
async def house() -> AsyncIterator[GatedHouse]:
    house = await gated(link_grace=0.0)
    yield house
    await house.core.aclose()


async def next_grants(house: House, worker: Hand) -> list[Grant]:
    """What the worker gets once a ring tells of it; a ring is the only way to hear."""
    async with aclosing(await house.queue.subscribe("llama_deploy.work")) as subscription:
        async for delivery in subscription:
            await delivery.ack()
            if grants := await worker.claim(8):
                return grants
    raise AssertionError("no ring came")


async def passed(house: House, seconds: float) -> None:
    """So much time has passed by the core's own clock: a task that nobody takes has met its deadline."""
    await (await house.worker("clock")).claim(0)
    task = await house.submit(await house.core.sessions.create(), "clock", deadline=seconds)
    assert (await house.ended(task)).status is TaskStatus.TIMED_OUT


# Leases


async def test_a_worker_that_idled_for_longer_than_a_lease_is_rung_for() -> None:
    house = await gated(lease=0.05)
    worker = await house.worker()
    await worker.claim(8)
    await passed(house, 0.1)
    task = await house.submit(await house.core.sessions.create())
    assert [grant.task_id for grant in await next_grants(house, worker)] == [task.id]
    await house.core.aclose()


@pytest.mark.shows("time.lease")
async def test_a_lease_runs_from_the_claim_however_long_the_worker_idled_before() -> None:
    house = await gated(lease=0.2)
    stopped = await house.worker()
    await passed(house, 0.25)
    task = await house.submit(await house.core.sessions.create())
    await stopped.claim()
    other = await house.worker()
    assert await other.claim() == []
    await passed(house, 0.1)
    assert await other.claim() == []
    assert [grant.task_id for grant in await next_grants(house, other)] == [task.id]
    await house.core.aclose()


@pytest.mark.shows("fencing.told")
async def test_a_worker_that_lost_an_item_to_another_is_told_when_it_renews_again() -> None:
    house = await gated(lease=0.05)
    stopped = await house.worker()
    await house.submit(await house.core.sessions.create())
    [old] = await stopped.claim()
    other = await house.worker()
    await next_grants(house, other)
    house.core.links.renew(stopped.worker_id)
    stop = await stopped.stops.get()
    assert (stop.item_id, stop.token, stop.reason) == (old.item_id, old.token, "fenced")
    await house.core.aclose()


@pytest.mark.shows("time.outage")
async def test_a_control_plane_that_stood_still_expires_no_lease_for_it() -> None:
    house = await gated(lease=0.2)
    worker = await house.worker()
    await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass  # nothing else in this process gets a turn
    await passed(house, 0.05)
    assert worker.link.held == {grant.item_id: grant.token}
    await house.core.aclose()


async def test_a_worker_whose_lease_ran_out_is_rung_for_once_it_is_heard_again() -> None:
    house = await gated(lease=0.05)
    worker = await house.worker()
    await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim(8)
    await passed(house, 0.1)
    await worker.complete(grant)
    await house.core.claims.claim_more(worker.link, 1)
    task = await house.submit(await house.core.sessions.create())
    assert [grant.task_id for grant in await next_grants(house, worker)] == [task.id]
    await house.core.aclose()


# Reconnects


@pytest.mark.shows("claim.lost-answer")
async def test_a_claim_under_way_while_its_worker_reconnects_is_given_back(house: GatedHouse) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    gate = house.store.hold(puts("items", "running"))
    claiming = asyncio.ensure_future(house.core.claims.claim(worker.link, 1))
    await gate.arrived.wait()
    worker.vanish()
    await worker.connect()
    gate.open.set()
    assert await claiming == []
    assert [grant.task_id for grant in await next_grants(house, worker)] == [task.id]


@pytest.mark.shows("link.back")
async def test_a_worker_that_comes_back_while_it_is_given_up_is_lost_no_more(house: GatedHouse) -> None:
    worker = await house.worker()
    await house.submit(await house.core.sessions.create())
    await worker.claim()
    gate = house.store.hold(removes("workers"))
    worker.vanish()
    await gate.arrived.wait()
    back = asyncio.ensure_future(worker.connect())
    gate.open.set()
    await back
    assert await house.store.get(names.WORKERS, worker.worker_id) is not None


async def test_an_item_that_ends_while_its_worker_reconnects_is_not_kept(house: GatedHouse) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await house.submit(await house.core.sessions.create())
    await worker.claim()
    worker.held = {grant.item_id: grant.token}
    gate = house.store.hold(removes("held"))
    back = asyncio.ensure_future(worker.connect())
    await gate.arrived.wait()
    await house.core.tasks.cancel(task.session_id, task.id, "a test")
    gate.open.set()
    await back
    assert worker.stale == [grant.item_id]
    assert worker.link.held == {}


@pytest.mark.shows("run.once")
async def test_events_that_are_sent_again_during_their_commit_are_stored_once(house: GatedHouse) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    gate = house.store.hold(touches("stream"))
    first = asyncio.ensure_future(worker.emit(grant, "a", "b"))
    await gate.arrived.wait()
    await worker.connect()
    again = asyncio.ensure_future(worker.emit(grant, "a", "b", "c"))
    gate.open.set()
    await asyncio.gather(first, again)
    await worker.complete(grant)
    assert await house.told(task) == ["a", "b", "c"]


@pytest.mark.shows("end.repeat")
async def test_a_report_that_is_sent_again_during_its_commit_is_taken_silently(house: GatedHouse) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    gate = house.store.hold(puts("tasks", "completed"))
    reports = [asyncio.ensure_future(worker.complete(grant, 1)) for _ in range(2)]
    await gate.arrived.wait()
    gate.open.set()
    await asyncio.gather(*reports)
    assert (await house.ended(task)).status is TaskStatus.COMPLETED
    assert house.core.links.refused == 0


# The ready index


async def test_a_stale_ready_key_never_takes_a_requeued_item_out_of_the_index(house: GatedHouse) -> None:
    first, second = await house.worker(), await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await first.claim()
    house.core.kernel.ready.add("work", names.dated_key(await created(house, grant), grant.item_id))
    gate = house.store.hold(removes("ready"))
    claiming = asyncio.ensure_future(second.claim())
    await gate.arrived.wait()
    await house.core.claims.release(first.link, {grant.item_id: grant.token})
    gate.open.set()
    grants = await claiming
    second.core = await house.restart()
    await second.connect()
    grants += await second.claim()
    assert [grant.task_id for grant in grants] == [task.id]


async def created(house: House, grant: Grant) -> float:
    item = await house.core.kernel.load(records.ITEM, names.ITEMS, grant.item_id)
    assert item is not None
    return item.record.created_at


async def test_a_stale_ready_key_does_not_cut_a_backoff_short(house: GatedHouse) -> None:
    worker, other = await house.worker(), await house.worker()
    await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await house.core.links.expire(worker.worker_id)
    await worker.fail(grant, retryable=True)
    assert await other.claim() == []
    await house.core.claims.retry(grant.item_id)
    assert len(await other.claim()) == 1


# A store that fails


async def test_a_claim_that_fails_leaves_its_slots_idle(house: GatedHouse) -> None:
    worker = await house.worker(slots=2)
    house.store.fail(puts("items", "running"))
    task = await house.submit(await house.core.sessions.create())
    with pytest.raises(StoreUnavailable):
        await worker.claim(2)
    assert worker.link.free == 2
    assert [grant.task_id for grant in await next_grants(house, worker)] == [task.id]


async def test_what_was_granted_before_a_claim_fails_is_given_out(house: GatedHouse) -> None:
    worker = await house.worker()
    tasks = [await house.submit(await house.core.sessions.create()) for _ in range(2)]
    conflict = house.store.hold(puts("items", "running"))
    claiming = asyncio.ensure_future(worker.claim(2))
    await conflict.arrived.wait()
    await house.core.tasks.cancel(tasks[0].session_id, tasks[0].id, "to make a conflict")
    third = await house.submit(await house.core.sessions.create())
    house.store.fail(puts("items", third.id))
    conflict.open.set()
    assert [grant.task_id for grant in await claiming] == [tasks[1].id]


async def test_what_was_to_be_done_later_is_tried_again_when_the_store_is_back(house: GatedHouse) -> None:
    house.store.fail(puts("tasks", "timed_out"))
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create(), deadline=0.05)
    await worker.claim()
    assert (await house.ended(task)).status is TaskStatus.TIMED_OUT


async def test_what_a_lost_worker_held_is_given_back_when_the_store_is_back(house: GatedHouse) -> None:
    worker, other = await house.worker(), await house.worker()
    task = await house.submit(await house.core.sessions.create())
    await worker.claim()
    house.store.fail(removes("held"))
    worker.vanish()
    assert [grant.task_id for grant in await next_grants(house, other)] == [task.id]


async def test_rings_go_on_after_an_item_that_cannot_be_read(house: GatedHouse) -> None:
    worker = await house.worker()
    damaged = await house.submit(await house.core.sessions.create())
    await next_grants(house, worker)
    await damage(house, damaged.id)
    house.core.rings.ring("work", damaged.id)
    await passed(house, 0.01)
    task = await house.submit(await house.core.sessions.create())
    assert [grant.task_id for grant in await next_grants(house, worker)] == [task.id]


async def damage(house: GatedHouse, item_id: str) -> None:
    await house.store.commit([Put(names.ITEMS, item_id, b"{not json")])


# Lanes


class Twice(BaseOrchestrator):
    """Orders the same service twice: at once, or one after the other."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once

    async def get_next_messages(
        self, task_def: TaskDefinition, state: dict[str, Any]
    ) -> tuple[list[QueueMessage], dict[str, Any]]:
        done = state.get(task_def.task_id)
        order = QueueMessage(type="work", action=ActionTypes.NEW_TASK, data={})
        if done is None:
            return [order, order] if self._at_once else [order], {**state, task_def.task_id: 0}
        return [order] if done == 1 and not self._at_once else [], state

    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, result.task_id: state[result.task_id] + 1}


@pytest.mark.shows("end.last-item", "orchestrator.result")
async def test_two_orders_of_one_decision_keep_their_order_in_a_session() -> None:
    house = await gated(Twice(at_once=True))
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [first] = await worker.claim(8)
    await worker.complete(first)
    [second] = await worker.claim(8)
    await worker.complete(second, "last")
    assert bytes((await house.ended(task)).value) == b'"last"'
    await house.core.aclose()


async def test_a_task_may_order_the_same_service_again() -> None:
    house = await gated(Twice(at_once=False))
    worker = await house.worker()
    session = await house.core.sessions.create()
    task, follower = await house.submit(session), await house.submit(session)
    ended = []
    for _ in range(4):
        [grant] = await worker.claim(8)
        ended.append(grant.task_id)
        await worker.complete(grant)
    assert sorted(ended) == sorted([task.id, task.id, follower.id, follower.id])
    assert (await house.ended(follower)).status is TaskStatus.COMPLETED
    await house.core.aclose()


async def test_a_task_that_ends_with_several_items_lets_its_followers_go() -> None:
    house = await gated(Twice(at_once=True))
    worker = await house.worker()
    session = await house.core.sessions.create()
    task, follower = await house.submit(session), await house.submit(session)
    await house.core.tasks.cancel(session, task.id, "a test")
    for _ in range(2):
        [grant] = await worker.claim(8)
        assert grant.task_id == follower.id
        await worker.complete(grant)
    assert (await house.ended(follower)).status is TaskStatus.COMPLETED
    await house.core.aclose()


async def test_a_lane_gets_past_any_number_of_items_that_cannot_be_read(house: GatedHouse) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    tasks = [await house.submit(session) for _ in range(20)]
    [grant] = await worker.claim(8)
    for task in tasks[1:-1]:
        await damage(house, task.id)
    await worker.complete(grant)
    assert [grant.task_id for grant in await worker.claim(8)] == [tasks[-1].id]


async def test_ids_that_clients_choose_never_collide_with_those_of_further_items() -> None:
    house = await gated(Twice(at_once=False))
    worker = await house.worker()
    taken = await house.submit(await house.core.sessions.create(), task_id="t.2")
    task = await house.submit(await house.core.sessions.create(), task_id="t")
    for _ in range(4):
        [grant] = await worker.claim(1)
        await worker.complete(grant)
    assert [(await house.ended(each)).status for each in (taken, task)] == [TaskStatus.COMPLETED] * 2
    await house.core.aclose()


# Sessions that are deleted


async def test_readers_and_waiters_of_a_deleted_session_come_to_an_end(house: GatedHouse) -> None:
    await house.worker()
    session = await house.core.sessions.create()
    task = await house.submit(session)
    readers = [asyncio.ensure_future(house.stream(task)) for _ in range(2)]
    waiting = asyncio.ensure_future(house.core.tasks.wait(task, 30))
    await passed(house, 0.01)
    house.store.hasty = True
    await house.core.sessions.delete(session)
    await asyncio.gather(*readers)
    with pytest.raises(UnknownTask):
        await waiting
    assert await house.stream(task) == []


async def test_a_task_submitted_while_its_session_is_deleted_is_ended_or_refused(house: GatedHouse) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    await house.submit(session)
    gate = house.store.hold(puts("tasks", "cancelled"))
    deleting = asyncio.ensure_future(house.core.sessions.delete(session))
    await gate.arrived.wait()
    late = asyncio.ensure_future(house.submit(session))
    gate.open.set()
    await deleting
    [outcome] = await asyncio.gather(late, return_exceptions=True)
    assert isinstance(outcome, UnknownSession) or await worker.claim(8) == []
    assert await house.store.scan(names.TASKS) == []
    assert await house.store.scan(names.ITEMS) == []


# Items that kill their workers


async def lost_twice(house: House) -> TaskRecord:
    """A task that has cost two workers."""
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    await worker.claim()
    for _ in range(2):
        worker.vanish()
        worker = await house.worker(slots=1)
        grants = await next_grants(house, worker)
        assert [grant.task_id for grant in grants] == [task.id]
    await worker.fail(grants[0], retryable=True)
    await house.core.claims.retry(grants[0].item_id)
    await house.core.links.leave(worker.link)
    return task


@pytest.mark.shows("retry.alone")
async def test_an_item_that_kills_its_workers_takes_no_bystander_with_it(house: GatedHouse) -> None:
    worker = await house.worker()
    poison, bystander = [await house.submit(await house.core.sessions.create()) for _ in range(2)]
    grants, deaths = await worker.claim(8), 0
    while deaths < house.config.max_losses:
        here = {grant.task_id: grant for grant in grants}
        if poison.id in here:
            deaths += 1
            worker.vanish()
        else:
            await worker.complete(here[bystander.id])
            await house.core.links.leave(worker.link)
        if not (await house.core.tasks.get(None, poison.id)).ended and deaths < house.config.max_losses:
            worker = await house.worker()
            grants = await worker.claim(8) or await next_grants(house, worker)
    ended = await house.ended(poison)
    assert (ended.status, deaths) == (TaskStatus.DEAD, 5)
    if not (await house.core.tasks.get(None, bystander.id)).ended:
        worker = await house.worker()
        await worker.complete((await next_grants(house, worker))[0])
    assert (await house.ended(bystander)).status is TaskStatus.COMPLETED


@pytest.mark.shows("retry.alone")
async def test_while_an_item_runs_alone_the_others_wait_and_are_rung_for_afterwards(house: GatedHouse) -> None:
    poison = await lost_twice(house)
    worker = await house.worker(slots=3)
    [alone] = await worker.claim(3)
    assert alone.task_id == poison.id
    others = [await house.submit(await house.core.sessions.create()) for _ in range(2)]
    assert await worker.claim(2) == []
    await worker.complete(alone)
    assert [grant.task_id for grant in await next_grants(house, worker)] == [other.id for other in others]


async def test_an_item_that_runs_alone_comes_first_when_its_worker_is_empty(house: GatedHouse) -> None:
    busy = await house.worker(slots=3)
    other = await house.submit(await house.core.sessions.create())
    [grant] = await busy.claim(1)
    poison = await lost_twice(house)
    later = await house.submit(await house.core.sessions.create())
    assert await busy.claim(2) == []
    await busy.complete(grant)
    [alone] = await house.core.claims.claim_more(busy.link, 1)
    assert alone.task_id == poison.id
    await busy.complete(alone)
    assert [grant.task_id for grant in await next_grants(house, busy)] == [later.id]
    assert (await house.ended(other)).status is TaskStatus.COMPLETED


async def test_what_waits_to_run_alone_on_a_worker_that_goes_runs_elsewhere(house: GatedHouse) -> None:
    busy = await house.worker(slots=3)
    await house.submit(await house.core.sessions.create())
    await busy.claim(1)
    poison = await lost_twice(house)
    assert await busy.claim(2) == []
    other = await house.worker()
    await house.core.links.leave(busy.link)
    [first] = await other.claim(8)
    await other.complete(first)
    [alone] = await house.core.claims.claim_more(other.link, 1)
    assert alone.task_id == poison.id


# Sizes


@pytest.mark.shows("claim.oldest")
async def test_one_claim_takes_no_more_than_a_link_can_carry(house: GatedHouse) -> None:
    worker = await house.worker()
    text = "x" * (9 * 1024 * 1024)
    tasks = [await house.submit(await house.core.sessions.create(), text=text) for _ in range(6)]
    got = [grant.task_id for grant in await worker.claim(8)]
    assert 1 <= len(got) < len(tasks)
    while len(got) < len(tasks):
        got += [grant.task_id for grant in await next_grants(house, worker)]
    assert got == [task.id for task in tasks]


# A store that was damaged


@pytest.mark.parametrize("collection", [names.SERVICES, names.WORKERS])
async def test_a_damaged_record_keeps_no_core_from_starting(house: GatedHouse, collection: str) -> None:
    worker = await house.worker()
    [document] = await house.store.scan(collection)
    await house.store.commit([Put(collection, document.key, b"{")])
    worker.core = await house.restart()
    await worker.connect()
    task = await house.submit(await house.core.sessions.create())
    assert [grant.task_id for grant in await worker.claim()] == [task.id]


# What is left behind


async def test_tasks_of_every_end_leave_nothing_in_memory() -> None:
    house = await gated(lease=0.2, link_grace=0.0)
    core = house.core
    for _ in range(3):
        worker = await house.worker()
        session = await core.sessions.create()
        tasks = [await house.submit(session if n % 2 else await core.sessions.create()) for n in range(8)]
        timed = await house.submit(await core.sessions.create(), deadline=0.05)
        grants = await worker.claim(16)
        for number, grant in enumerate(grants):
            await worker.emit(grant, "a")
            match number % 4:
                case 0:
                    await worker.complete(grant, 1)
                case 1:
                    await worker.fail(grant, retryable=True)
                    await core.claims.retry(grant.item_id)
                case 2:
                    await core.tasks.cancel(grant.session_id, grant.task_id, "a test")
                case 3:
                    await core.claims.release(worker.link, {grant.item_id: grant.token})
        worker.vanish()
        await house.ended(timed)
        for task in tasks:
            await core.tasks.cancel(task.session_id, task.id, "a test")
        await core.links.attach(hello_of(worker), worker.stops.put_nowait, local=False)
        link = core.links._by_worker[worker.worker_id]
        await passed(house, 0.3)
        assert (link.held, link.numbers, link.lost, link.alone, link.solo) == ({}, {}, {}, None, None)
        await core.links.leave(link)
    kernel = core.kernel
    assert kernel.turns._places == {}
    assert [kind for kind, _ in kernel.agenda._handles if kind not in ("ring", "retention")] == []
    assert kernel.backlog.count("work") == 0
    assert set(core.links._by_service) <= {"clock"}
    assert kernel.ready.count("work") <= 1
    assert [len(await house.store.scan(names.held(worker.worker_id))) for worker in [worker]] == [0]
    for collection in (names.TIMERS, names.ready("work")):
        assert await house.store.scan(collection) == []
    await core.aclose()


def hello_of(worker: Hand) -> Hello:
    return Hello(worker_id=worker.worker_id, service=worker.service, slots=8, free=8)
