"""How much may be queued for a service: counted through every change, after a restart too, and refused beyond."""

from __future__ import annotations

import asyncio
import random

import pytest

from arriero.core.backlog import Backlog
from arriero.core.records import TaskRecord
from arriero.types.errors import QueueFull, StoreUnavailable, error_from_info
from arriero.types.link import Grant, Hello, Push
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Clock, House, MakeHouse
from tests.unit.core.gates import GatedStore, touches


async def knows(house: House, service: str = "work", **fields: int | bool | None) -> None:
    """Make the service known, with nobody at work for it."""
    hello = Hello(worker_id=f"of-{service}", service=service, slots=1, free=0, **fields)  # type: ignore[arg-type]  # as given
    link, _ = await house.core.links.attach(hello, _nobody, local=False)
    await house.core.links.leave(link)


def _nobody(_: Push) -> None:
    """Nobody is told."""


async def rows(house: House) -> int:
    store = house.store
    return sum([len(await store.scan(name, limit=10_000)) for name in ("tasks", "items", "lanes", "ready/work")])


async def test_beyond_the_limit_a_submission_is_refused_before_anything_is_stored(make_house: MakeHouse) -> None:
    house = await make_house(max_queue=2)
    await knows(house)
    sessions = [await house.core.sessions.create() for _ in range(3)]
    await house.submit(sessions[0])
    await house.submit(sessions[1])
    before = await rows(house)
    with pytest.raises(
        QueueFull, match=r"2 items are queued for service 'work'; the limit is 2 .*MAX_QUEUE"
    ) as refused:
        await house.submit(sessions[2])
    info = refused.value.info()
    assert (refused.value.status, info.code, info.retryable) == (429, "queue_full", True)
    assert info.retry_after is not None
    assert 1 <= info.retry_after <= 30
    assert isinstance(error_from_info(info), QueueFull)
    assert await rows(house) == before
    assert house.core.kernel.backlog.count("work") == 2


async def test_what_waits_behind_its_session_and_for_a_retry_counts_and_what_runs_does_not(
    make_house: MakeHouse,
) -> None:
    house = await make_house(max_queue=3)
    backlog = house.core.kernel.backlog
    worker = await house.worker()
    session = await house.core.sessions.create()
    for _ in range(3):
        await house.submit(session)
    assert backlog.count("work") == 3
    with pytest.raises(QueueFull):
        await house.submit(session)
    grants = await worker.claim(3)
    assert (len(grants), backlog.count("work")) == (1, 2)
    await worker.fail(grants[0], retryable=True)
    assert backlog.count("work") == 3
    with pytest.raises(QueueFull):
        await house.submit(session)
    await house.core.claims.retry(grants[0].item_id)
    again = await worker.claim()
    assert backlog.count("work") == 2
    await worker.complete(again[0], 1)
    assert backlog.count("work") == 2
    await house.core.sessions.delete(session)
    assert backlog.count("work") == 0


async def test_after_a_restart_the_count_is_what_the_store_holds(make_house: MakeHouse) -> None:
    house = await make_house(max_queue=6)
    worker = await house.worker()
    first, second = [await house.core.sessions.create() for _ in range(2)]
    for session in (first, first, first, second, second):
        await house.submit(session)
    running, failing = await worker.claim(2)
    await worker.fail(failing, retryable=True)
    assert house.core.kernel.backlog.count("work") == 4
    await house.restart()
    assert house.core.kernel.backlog.count("work") == 4
    await house.submit(await house.core.sessions.create())
    await house.submit(await house.core.sessions.create())
    with pytest.raises(QueueFull):
        await house.submit(await house.core.sessions.create())
    assert running.item_id != failing.item_id


async def test_a_repeat_of_what_was_accepted_is_answered_even_when_the_queue_is_full(make_house: MakeHouse) -> None:
    house = await make_house(max_queue=1)
    await knows(house)
    session = await house.core.sessions.create()
    task = await house.submit(session, task_id="mine")
    with pytest.raises(QueueFull):
        await house.submit(session, task_id="other")
    assert (await house.submit(session, task_id="mine")).id == task.id


async def test_many_at_once_do_not_get_past_the_limit_together(make_house: MakeHouse) -> None:
    house = await make_house(max_queue=5)
    await knows(house)
    sessions = [await house.core.sessions.create() for _ in range(20)]
    outcomes = await asyncio.gather(*(house.submit(session) for session in sessions), return_exceptions=True)
    assert sum(isinstance(outcome, QueueFull) for outcome in outcomes) == 15
    assert house.core.kernel.backlog.count("work") == 5
    worker = await house.worker()
    assert len(await worker.claim(3)) == 3
    outcomes = await asyncio.gather(*(house.submit(session) for session in sessions), return_exceptions=True)
    assert sum(isinstance(outcome, QueueFull) for outcome in outcomes) == 17


async def test_a_service_has_its_own_limit_and_others_have_the_control_planes(make_house: MakeHouse) -> None:
    house = await make_house(max_queue=2)
    await knows(house, "narrow", max_queue=1)
    await knows(house, "wide", max_queue=50)
    await knows(house, "plain")
    for service, most in (("narrow", 1), ("wide", 50), ("plain", 2)):
        for _ in range(most):
            await house.submit(await house.core.sessions.create(), service)
        with pytest.raises(QueueFull, match=f"the limit is {most} "):
            await house.submit(await house.core.sessions.create(), service)


async def test_without_a_limit_anything_is_taken(make_house: MakeHouse) -> None:
    house = await make_house(max_queue=None)
    await knows(house)
    session = await house.core.sessions.create()
    for _ in range(200):
        await house.submit(session)
    assert house.core.kernel.backlog.count("work") == 200


async def test_a_refused_submission_is_asked_to_come_when_the_queue_has_moved(make_house: MakeHouse) -> None:
    clock = Clock()
    house = await make_house(max_queue=4, clock=clock)
    worker = await house.worker()
    session = await house.core.sessions.create()
    tasks = [await house.submit(session) for _ in range(4)]

    async def refused() -> float:
        with pytest.raises(QueueFull) as error:
            await house.submit(session)
        assert error.value.retry_after is not None
        return error.value.retry_after

    assert await refused() == 1.0
    clock.now += 8
    (grant,) = await worker.claim()
    await house.submit(session)
    assert await refused() == 16.0  # one place in eight seconds, and two who wait for one
    await worker.complete(grant)
    assert (await house.ended(tasks[0])).status is TaskStatus.COMPLETED


async def test_the_settings_take_none_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PLANE_MAX_QUEUE", "none")
    monkeypatch.setenv("CONTROL_PLANE_KEEP_FINISHED_FOR", "")
    config = ControlPlaneConfig()
    assert (config.max_queue, config.keep_finished_for) == (None, None)
    monkeypatch.setenv("CONTROL_PLANE_MAX_QUEUE", "7")
    monkeypatch.setenv("CONTROL_PLANE_KEEP_FINISHED_FOR", "60")
    config = ControlPlaneConfig()
    assert (config.max_queue, config.keep_finished_for) == (7, 60.0)


async def test_a_task_that_was_not_stored_leaves_its_place(make_house: MakeHouse) -> None:
    store = GatedStore()
    house = await make_house(max_queue=1, store=store)
    await knows(house)
    session = await house.core.sessions.create()
    store.fail(touches("tasks"))
    with pytest.raises(StoreUnavailable):
        await house.submit(session)
    await house.submit(session)
    with pytest.raises(QueueFull):
        await house.submit(session)


async def test_children_are_never_refused_and_count(make_house: MakeHouse) -> None:
    house = await make_house(max_queue=1)
    outer, inner = await house.worker("outer"), await house.worker("inner")
    await house.submit(await house.core.sessions.create(), "outer")
    (parent,) = await outer.claim()
    calls = [await outer.call(parent, "inner", key=str(number)) for number in range(5)]
    assert house.core.kernel.backlog.count("inner") == 5
    with pytest.raises(QueueFull, match="5 items are queued"):
        await house.submit(await house.core.sessions.create(), "inner")
    for child in await inner.claim(8):
        await inner.complete(child, 1)
    await asyncio.gather(*calls)
    assert house.core.kernel.backlog.count("inner") == 0


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_the_count_is_what_a_new_count_gives(make_house: MakeHouse, seed: int) -> None:
    house = await make_house()
    chance = random.Random(seed)
    worker = await house.worker(accepts={"Answer": True})
    sessions = [await house.core.sessions.create() for _ in range(4)]
    held: list[Grant] = []
    tasks: list[TaskRecord] = []
    for _ in range(60):
        match chance.randrange(8):
            case 0 | 1:
                tasks.append(await house.submit(chance.choice(sessions), deadline=chance.choice([None, 100.0])))
            case 2:
                held += await worker.claim(2)
            case 3 if held:
                await worker.complete(held.pop(), 1)
            case 4 if held:
                await worker.fail(held.pop(), retryable=True)
            case 5 if held:
                grant = held.pop()
                await house.core.claims.release(worker.link, {grant.item_id: grant.token})
            case 6 if held:
                await worker.wait(held.pop(), "Answer", leave=True)
            case 7 if tasks:
                task = tasks.pop(chance.randrange(len(tasks)))
                held = [grant for grant in held if grant.task_id != task.id]
                await house.core.tasks.cancel(task.session_id, task.id, "a test")
    counted = house.core.kernel.backlog.count("work")
    again = Backlog(house.store, house.clock)
    await again.recover(["work"])
    assert again.count("work") == counted
