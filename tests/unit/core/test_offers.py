"""Items that idle workers are given unasked, in the commit that accepts their task; and what may come in between."""

# ruff: noqa: SLF001  # whether a change is still to come can only be seen from inside

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from arriero.core import names, offers
from arriero.core.offers import LARGEST
from arriero.orchestrators import SimpleOrchestrator
from arriero.state_stores.base import Committed, Document, Op
from arriero.types.errors import StoreUnavailable
from arriero.types.link import Grant, Granted, Hello, Push, Stop
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Hand, House
from tests.unit.core.gates import GatedStore, puts, touches


class Taker(Hand):
    """A worker that takes what it did not ask for."""

    def __init__(self, house: House, slots: int = 2) -> None:
        super().__init__(house.core, "work", slots)
        self.given: asyncio.Queue[Grant] = asyncio.Queue()

    async def connect(self) -> Taker:
        """Connect, and ask for the first time: there is nothing."""
        hello = Hello(
            worker_id=self.worker_id,
            service=self.service,
            slots=self.slots,
            free=self.slots - len(self.held),
            takes=True,
            held=dict(self.held),
        )
        self.link, welcome = await self.core.links.attach(hello, self._pushed, local=False)
        for item_id in welcome.stop:
            self.held.pop(item_id, None)
        return self

    def _pushed(self, push: Push) -> None:
        if isinstance(push, Granted):
            for grant in push.grants:
                self.held[grant.item_id] = grant.token
                self.given.put_nowait(grant)
        elif isinstance(push, Stop):
            self.stops.put_nowait(push)

    async def release(self, grant: Grant) -> None:
        self.held.pop(grant.item_id, None)
        await self.core.claims.release(self.link, {grant.item_id: grant.token})

    async def idle(self) -> Taker:
        """Everything that is free asks; nothing is there, and the control plane knows it."""
        assert await self.claim(self.slots - len(self.held)) == []
        return self


class LateStore(GatedStore):
    """A store that commits, and whose answer waits for ``late`` when there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.late: asyncio.Event | None = None
        self.done = asyncio.Event()

    async def get(self, collection: str, key: str) -> Document | None:
        await asyncio.sleep(0)
        return await super().get(collection, key)

    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        committed = await super().commit(ops, durable=durable)
        if self.late is not None:
            self.done.set()
            await self.late.wait()
        return committed


class LateHouse(House):
    store: LateStore


@pytest.fixture
async def house() -> AsyncIterator[LateHouse]:
    async with LateStore() as store:
        house = LateHouse(store, ControlPlaneConfig(link_grace=0.0), SimpleOrchestrator(3, None))
        async with house.core:
            yield house


async def claimed(house: House, worker: Hand) -> list[Grant]:
    """What the worker gets by asking, and by asking again at each ring."""
    if grants := await worker.claim(1):
        return grants
    async with aclosing(await house.queue.subscribe("llama_deploy.work")) as subscription:
        async for delivery in subscription:
            await delivery.ack()
            if grants := await worker.claim(1):
                return grants
    raise AssertionError("no ring came")


@pytest.mark.shows("claim.commits")
async def test_a_task_for_an_idle_worker_takes_two_commits_and_no_ring(house: LateHouse) -> None:
    worker = await (await Taker(house).connect()).idle()
    session = await house.core.sessions.create()
    before = house.store.stats.commits
    task = await house.submit(session, text='{"a": 1}', headers={"traceparent": "00"}, deadline=100.0)
    grant = worker.given.get_nowait()
    assert (grant.task_id, grant.input, grant.attempt, grant.epoch) == (task.id, '{"a": 1}', 1, 1)
    assert grant.headers == {"traceparent": "00"}
    assert grant.deadline is not None
    assert 0 < grant.deadline <= 100.0
    shown = await house.core.tasks.show(session, task.id)
    assert shown.status is TaskStatus.RUNNING
    assert shown.started_at is not None
    await worker.complete(grant, 1, context="kept")
    assert (await house.ended(task)).status is TaskStatus.COMPLETED
    assert house.store.stats.commits - before == 2
    assert house.core.rings.sent == 0
    await house.submit(session)
    assert worker.given.get_nowait().context == "kept"


async def test_only_free_slots_are_given_items_and_the_others_are_claimed(house: LateHouse) -> None:
    worker = await (await Taker(house, slots=2).connect()).idle()
    tasks = [await house.submit(await house.core.sessions.create()) for _ in range(3)]
    given = [worker.given.get_nowait() for _ in range(2)]
    assert [grant.task_id for grant in given] == [task.id for task in tasks[:2]]
    assert worker.given.empty()
    await worker.complete(given[0])
    [claimed] = await house.core.claims.claim_more(worker.link, 1)
    assert claimed.task_id == tasks[2].id


async def test_of_tasks_that_come_at_once_those_without_a_slot_are_queued(house: LateHouse) -> None:
    worker = await (await Taker(house, slots=1).connect()).idle()
    sessions = [await house.core.sessions.create() for _ in range(3)]
    tasks = await asyncio.gather(*(house.submit(session) for session in sessions))
    grant = worker.given.get_nowait()
    assert (worker.given.empty(), house.core.kernel.backlog.count("work")) == (True, 2)
    await worker.complete(grant)
    assert {grant.task_id, *[each.task_id for each in await worker.claim(3)]} == {task.id for task in tasks}
    assert house.core.kernel.backlog.count("work") == 0


async def test_the_idlest_worker_is_given_the_item(house: LateHouse) -> None:
    small, large = [await (await Taker(house, slots).connect()).idle() for slots in (1, 3)]
    for _ in range(2):
        await house.submit(await house.core.sessions.create())
    assert (small.given.qsize(), large.given.qsize()) == (0, 2)


async def test_nothing_is_given_past_what_is_ready_already(house: LateHouse) -> None:
    worker = await Taker(house).connect()
    older = await house.submit(await house.core.sessions.create())
    assert worker.given.empty()  # nobody has asked yet, so what the store holds is not known
    newer = await house.submit(await house.core.sessions.create())
    assert worker.given.empty()
    assert [grant.task_id for grant in await worker.claim(2)] == [older.id, newer.id]


async def test_a_follower_in_its_session_is_not_given(house: LateHouse) -> None:
    worker = await (await Taker(house).connect()).idle()
    session = await house.core.sessions.create()
    first, second = await house.submit(session), await house.submit(session)
    grant = worker.given.get_nowait()
    assert (grant.task_id, worker.given.empty()) == (first.id, True)
    await worker.complete(grant)
    [follower] = await worker.claim(2)
    assert follower.task_id == second.id


async def test_a_large_input_and_a_worker_that_takes_nothing_unasked_are_left_to_claims(house: LateHouse) -> None:
    plain = await house.worker()
    assert await plain.claim(8) == []
    await house.submit(await house.core.sessions.create())
    assert len(await plain.claim(8)) == 1
    await plain.core.links.leave(plain.link)
    worker = await Taker(house).connect()
    assert len(await worker.claim(2)) == 1
    await house.submit(await house.core.sessions.create(), text='"' + "x" * LARGEST + '"')
    assert worker.given.empty()
    assert len(await worker.claim(1)) == 1


async def test_what_a_full_worker_gives_back_another_gets(house: LateHouse) -> None:
    worker = await (await Taker(house).connect()).idle()
    task = await house.submit(await house.core.sessions.create())
    await worker.release(worker.given.get_nowait())
    other = await Taker(house).connect()
    [grant] = await other.claim(2)
    assert (grant.task_id, grant.epoch) == (task.id, 2)
    await other.complete(grant)
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


async def test_a_claim_of_all_free_slots_sets_right_how_many_there_are(house: LateHouse) -> None:
    worker = await (await Taker(house, slots=3).connect()).idle()
    for _ in range(3):
        await house.submit(await house.core.sessions.create())
    for _ in range(3):
        await worker.release(worker.given.get_nowait())
    assert worker.link.free == 0
    assert len(await worker.claim(3)) == 3
    assert worker.link.free == 0
    for item_id, token in list(worker.held.items()):
        await house.core.tasks.cancel((await house.core.tasks.get(None, item_id)).session_id, item_id, "a test")
        assert (await worker.stops.get()).token == token
    worker.held.clear()
    await worker.idle()
    assert worker.link.free == 3


async def test_a_slot_is_not_lost_when_the_store_refuses_the_task(house: LateHouse) -> None:
    worker = await (await Taker(house, slots=1).connect()).idle()
    session = await house.core.sessions.create()
    house.store.fail(puts(names.ITEMS))
    with pytest.raises(StoreUnavailable):
        await house.submit(session)
    assert (worker.link.free, worker.given.empty()) == (1, True)
    task = await house.submit(session)
    assert worker.given.get_nowait().task_id == task.id


@pytest.mark.parametrize("comes_back", [False, True])
async def test_a_link_that_ends_before_the_commit_leaves_the_item_to_others(house: LateHouse, comes_back: bool) -> None:
    worker = await (await Taker(house).connect()).idle()
    session = await house.core.sessions.create()
    gate = house.store.hold(touches(names.held(worker.worker_id)))
    submitting = asyncio.ensure_future(house.submit(session))
    await gate.arrived.wait()
    worker.vanish()
    if comes_back:
        await worker.connect()
    gate.open.set()
    task = await submitting
    other = await Taker(house).connect()
    [grant] = await claimed(house, other)
    assert (grant.task_id, worker.given.empty()) == (task.id, True)
    await other.complete(grant)
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


async def test_a_grant_that_was_lost_with_its_connection_goes_to_others(house: LateHouse) -> None:
    worker = await (await Taker(house).connect()).idle()
    task = await house.submit(await house.core.sessions.create())
    worker.held.clear()  # the frame never arrived
    worker.vanish()
    await worker.connect()
    [grant] = await worker.claim(2)
    assert (grant.task_id, grant.epoch) == (task.id, 2)


async def test_a_client_that_leaves_amid_the_commit_leaves_no_item_with_nobody(
    house: LateHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "IN_DOUBT", 0.0)
    worker = await (await Taker(house, slots=1).connect()).idle()
    session = await house.core.sessions.create()
    house.store.late = asyncio.Event()
    submitting = asyncio.ensure_future(house.submit(session, task_id="left"))
    await house.store.done.wait()
    submitting.cancel()
    await asyncio.gather(submitting, return_exceptions=True)
    house.store.late = None
    assert (worker.given.empty(), worker.link.free) == (True, 1)
    assert [grant.task_id for grant in await claimed(house, worker)] == ["left"]


async def test_of_two_grants_that_nobody_got_the_one_that_took_effect_goes_back(house: LateHouse) -> None:
    worker = await (await Taker(house, slots=1).connect()).idle()
    task = await house.submit(await house.core.sessions.create())
    grant = worker.given.get_nowait()
    for token in (grant.token, "of a commit that failed"):
        house.core.links.returns.soon(task.id, token)
    assert [again.epoch for again in await claimed(house, worker)] == [2]


async def test_a_task_that_is_cancelled_after_it_was_given_stops_its_worker(house: LateHouse) -> None:
    worker = await (await Taker(house).connect()).idle()
    session = await house.core.sessions.create()
    task = await house.submit(session)
    grant = worker.given.get_nowait()
    await house.core.tasks.cancel(session, task.id, "a test")
    assert (await worker.stops.get()).token == grant.token
    assert (await house.ended(task)).status is TaskStatus.CANCELLED


@pytest.mark.parametrize("seed", range(6))
async def test_every_task_ends_once_whatever_workers_do_with_what_they_are_given(house: LateHouse, seed: int) -> None:
    chance = random.Random(seed)
    workers = [await Taker(house, slots).connect() for slots in (1, 2, 3)]
    completed: list[str] = []

    async def serve(worker: Taker) -> None:
        while True:
            grants = [worker.given.get_nowait()] if not worker.given.empty() else await worker.claim(1)
            for grant in grants:
                await do(worker, grant)
            await asyncio.sleep(0)

    async def do(worker: Taker, grant: Grant) -> None:
        match chance.randrange(6):
            case 0:
                await worker.release(grant)
            case 1:
                worker.held.clear()
                while not worker.given.empty():
                    worker.given.get_nowait()
                worker.vanish()
                await worker.connect()
            case _:
                await worker.complete(grant)
                completed.append(grant.task_id)

    async def run() -> str:
        task = await house.submit(await house.core.sessions.create())
        assert (await house.ended(task)).status is TaskStatus.COMPLETED
        return task.id

    serving = [asyncio.ensure_future(serve(worker)) for worker in workers]
    ended = [await asyncio.gather(*(run() for _ in range(8))) for _ in range(8)]
    for each in serving:
        each.cancel()
    assert [str(done) for done in await asyncio.gather(*serving, return_exceptions=True)] == [""] * len(serving)
    assert sorted(completed) == sorted(task_id for batch in ended for task_id in batch)
    assert house.core.kernel.turns._places == {}
