"""Submitting, order, deadlines, restarts."""

from __future__ import annotations

import asyncio

import pytest

from arriero.core import names
from arriero.state_stores.base import Put
from arriero.testing import VirtualTime
from arriero.types.errors import (
    InvalidInput,
    PayloadTooLarge,
    TaskConflict,
    UnknownService,
    UnknownSession,
    UnknownTask,
)
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import House, MakeHouse


@pytest.mark.shows("claim.commits", "end.one-commit")
async def test_a_task_takes_three_commits(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    before = house.store.stats.commits  # type: ignore[attr-defined]  # counted by the stores themselves
    task = await house.submit(session)
    [grant] = await worker.claim()
    await worker.complete(grant)
    await house.ended(task)
    assert house.store.stats.commits - before == 3  # type: ignore[attr-defined]  # as above


@pytest.mark.shows("accept.repeat")
async def test_the_same_task_again_is_the_same_task(house: House) -> None:
    await house.worker()
    session = await house.core.sessions.create()
    first = await house.submit(session, task_id="t1", text='{"a": 1}')
    again = await house.submit(session, task_id="t1", text='{"a": 1}')
    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert (await house.core.listing.session(session)).task_ids == ["t1"]


@pytest.mark.shows("accept.repeat")
async def test_fifty_submissions_of_one_id_at_once_make_one_task(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    await asyncio.gather(*(house.submit(session, task_id="t1") for _ in range(50)))
    assert len(await worker.claim(8)) == 1


@pytest.mark.shows("accept.repeat")
async def test_the_same_id_with_another_body_is_refused(house: House) -> None:
    await house.worker()
    session = await house.core.sessions.create()
    await house.submit(session, task_id="t1", text='{"a": 1}')
    with pytest.raises(TaskConflict, match="t1"):
        await house.submit(session, task_id="t1", text='{"a": 2}')


async def test_the_id_of_another_session_is_refused(house: House) -> None:
    await house.worker()
    one, two = await house.core.sessions.create(), await house.core.sessions.create()
    await house.submit(one, task_id="t1")
    with pytest.raises(TaskConflict):
        await house.submit(two, task_id="t1")
    with pytest.raises(UnknownTask):
        await house.core.tasks.get(two, "t1")


@pytest.mark.shows("accept.known")
async def test_an_unknown_service_is_refused_with_the_known_ones_and_nothing_is_stored(house: House) -> None:
    await house.worker("search")
    session = await house.core.sessions.create()
    with pytest.raises(UnknownService, match=r"known services: search; did you mean 'search'") as caught:
        await house.submit(session, "serach", task_id="t1")
    assert caught.value.details == {"known": ["search"]}
    assert (await house.core.listing.session(session)).task_ids == []


async def test_a_service_that_registers_just_after_the_start_is_waited_for(house: House) -> None:
    session = await house.core.sessions.create()
    task = asyncio.create_task(house.submit(session))
    worker = await house.worker()
    await task
    assert len(await worker.claim()) == 1


@pytest.mark.shows("accept.worker-left")
async def test_a_service_stays_known_when_its_worker_has_left(house: House) -> None:
    worker = await house.worker()
    await house.core.links.leave(worker.link)
    await house.submit(await house.core.sessions.create())


@pytest.mark.shows("accept.known")
async def test_an_unknown_session_is_refused(house: House) -> None:
    await house.worker()
    with pytest.raises(UnknownSession, match="nowhere"):
        await house.submit("nowhere")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\0b", " a", "x" * 129, "a\nb", "a\\b"])
async def test_an_id_that_can_be_none_is_refused(house: House, name: str) -> None:
    await house.worker()
    session = await house.core.sessions.create()
    if name:
        with pytest.raises(InvalidInput, match="task_id"):
            await house.submit(session, task_id=name)
    with pytest.raises(InvalidInput, match="session_id"):
        await house.core.sessions.create(name)


@pytest.mark.shows("default.input")
async def test_an_input_beyond_the_limit_is_refused(make_house: MakeHouse) -> None:
    house = await make_house(max_input=10)
    await house.worker()
    with pytest.raises(PayloadTooLarge, match="limit is 10 bytes"):
        await house.submit(await house.core.sessions.create(), text="x" * 11)


@pytest.mark.shows("claim.heads", "session.order")
async def test_tasks_of_a_session_run_in_order_and_sessions_beside_each_other(house: House) -> None:
    worker = await house.worker()
    one, two = await house.core.sessions.create(), await house.core.sessions.create()
    tasks = [await house.submit(one, task_id=f"one{number}") for number in range(3)]
    await house.submit(two, task_id="two0")
    ran = []
    grants = await worker.claim(8)
    assert {grant.task_id for grant in grants} == {"one0", "two0"}
    while grants:
        ran += [grant.task_id for grant in grants if grant.session_id == one]
        for grant in grants:
            await worker.complete(grant, grant.task_id)
        grants = await worker.claim(8)
    assert ran == [task.id for task in tasks]


@pytest.mark.shows("session.parallel")
async def test_parallel_services_run_a_session_at_once(house: House) -> None:
    worker = await house.worker(parallel=True)
    session = await house.core.sessions.create()
    for _ in range(5):
        await house.submit(session)
    assert len(await worker.claim(8)) == 5


@pytest.mark.shows("claim.brings", "end.one-commit")
async def test_the_context_goes_from_task_to_task_of_a_session_and_service(house: House) -> None:
    worker, other = await house.worker(), await house.worker("other")
    session = await house.core.sessions.create()
    await house.submit(session)
    [grant] = await worker.claim()
    assert grant.context is None
    await worker.complete(grant, context='{"kept": 1}')
    await house.submit(session)
    await house.submit(session, "other")
    await house.submit(await house.core.sessions.create())
    contexts = {grant.session_id == session: grant.context for grant in await worker.claim(8)}
    assert contexts == {True: '{"kept": 1}', False: None}
    assert [grant.context for grant in await other.claim()] == [None]


@pytest.mark.shows("deadline.durable")
async def test_a_deadline_ends_a_running_task_and_stops_its_worker(house: House) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create(), deadline=0.05)
    [grant] = await worker.claim()
    assert grant.deadline is not None
    assert 0 < grant.deadline <= 0.05
    ended = await house.ended(task)
    stop = await worker.stops.get()
    assert ended.status is TaskStatus.TIMED_OUT
    assert ended.error is not None
    assert ended.error.details == {"limit": 0.05, "setting": "deadline"}
    assert (stop.item_id, stop.reason) == (grant.item_id, "timed_out")


@pytest.mark.shows("deadline.durable")
async def test_a_deadline_ends_a_queued_task_and_lets_the_next_one_go(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    first = await house.submit(session, deadline=0.02)
    await house.submit(session, task_id="second")
    await house.ended(first)
    assert [grant.task_id for grant in await worker.claim(8)] == ["second"]


async def test_a_follower_whose_deadline_passes_leaves_the_queue(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    await house.submit(session, task_id="first")
    late = await house.submit(session, task_id="late", deadline=0.02)
    await house.submit(session, task_id="third")
    [grant] = await worker.claim(8)
    await house.ended(late)
    await worker.complete(grant)
    assert [grant.task_id for grant in await worker.claim(8)] == ["third"]


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf")])
async def test_a_deadline_that_is_none_is_refused(house: House, deadline: float) -> None:
    await house.worker()
    with pytest.raises(InvalidInput, match="deadline"):
        await house.submit(await house.core.sessions.create(), deadline=deadline)


async def test_everything_goes_on_after_a_restart(house: House) -> None:
    worker = await house.worker()
    sessions = [await house.core.sessions.create() for _ in range(3)]
    done, running, queued = [await house.submit(session) for session in sessions]
    [first, second] = await worker.claim(2)
    await worker.complete(first, "done")
    worker.core = await house.restart()
    await worker.connect()
    assert bytes((await house.ended(done)).value) == b'"done"'
    await worker.complete(second, "ran on")
    assert bytes((await house.ended(running)).value) == b'"ran on"'
    [third] = await worker.claim(8)
    await worker.complete(third, "came later")
    assert bytes((await house.ended(queued)).value) == b'"came later"'
    assert house.core.services.require("work").linked


async def test_what_a_worker_held_that_did_not_come_back_is_run_by_another(make_house: MakeHouse) -> None:
    house = await make_house(lease=0.05)
    gone = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    await gone.claim()
    await house.restart()
    other = await house.worker()
    subscription = await house.queue.subscribe("llama_deploy.work")
    grants = await other.claim()
    while not grants:
        await (await anext(subscription)).ack()
        grants = await other.claim()
    await subscription.aclose()
    await other.complete(grants[0], "rescued")
    assert bytes((await house.ended(task)).value) == b'"rescued"'


@pytest.mark.shows("ring.ready", "deadline.durable")
async def test_deadlines_and_retries_survive_a_restart(house: House) -> None:
    worker = await house.worker()
    expiring = await house.submit(await house.core.sessions.create(), deadline=0.2)
    failing = await house.submit(await house.core.sessions.create())
    for grant in await worker.claim(2):
        if grant.task_id == failing.id:
            await worker.fail(grant, retryable=True)
    await house.restart()
    assert (await house.ended(expiring)).status is TaskStatus.TIMED_OUT
    other = await house.worker()
    subscription = await house.queue.subscribe("llama_deploy.work")
    grants = await other.claim()
    while not grants:
        await (await anext(subscription)).ack()
        grants = await other.claim()
    await subscription.aclose()
    assert grants[0].task_id == failing.id


async def test_deleting_a_session_stops_its_tasks_and_leaves_nothing(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    running, _ = [await house.submit(session) for _ in range(2)]
    [grant] = await worker.claim(8)
    await worker.emit(grant, "a")
    await house.core.sessions.update_state(session, {"a": 1})
    await house.core.sessions.delete(session)
    assert (await worker.stops.get()).reason == "cancelled"
    with pytest.raises(UnknownTask):
        await house.core.tasks.get(None, running.id)
    with pytest.raises(UnknownSession):
        await house.core.sessions.state(session)
    assert await worker.claim(8) == []
    for collection in ("tasks", "items", "lanes", "states", "sessions", f"held/{worker.worker_id}", "ready/work"):
        assert await house.store.scan(collection) == []


async def test_a_session_can_be_made_with_an_id_and_a_key_gives_the_same_one(house: House) -> None:
    create = house.core.sessions.create
    assert await create("mine") == "mine"
    assert await create("mine") == "mine"
    assert await create(key="k") == await create(key="k") != await create(key="other")


async def test_concurrent_updates_of_a_state_all_arrive(house: House) -> None:
    session = await house.core.sessions.create()
    await asyncio.gather(*(house.core.sessions.update_state(session, {str(n): n}) for n in range(50)))
    assert await house.core.sessions.state(session) == {str(n): n for n in range(50)}


async def test_a_task_whose_item_is_damaged_fails_and_holds_up_nobody(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    damaged = await house.submit(session)
    after = await house.submit(session)
    await house.store.commit([Put(names.ITEMS, damaged.id, b"{no json")])
    await worker.claim()
    ended = await house.ended(damaged)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (TaskStatus.FAILED, "store_damaged")
    [grant] = await worker.claim()
    assert grant.task_id == after.id


async def test_a_task_whose_item_is_damaged_can_be_cancelled(house: House) -> None:
    await house.worker()
    task = await house.submit(await house.core.sessions.create())
    await house.store.commit([Put(names.ITEMS, task.id, b"{no json")])
    await house.core.tasks.cancel(task.session_id, task.id, "a test")
    assert (await house.ended(task)).status is TaskStatus.CANCELLED


@pytest.mark.shows("session.turn")
async def test_a_task_behind_another_says_which_it_waits_for(house: House) -> None:
    await house.worker()
    session = await house.core.sessions.create()
    first, second = await house.submit(session), await house.submit(session)
    shown = await house.core.tasks.show(session, second.id)
    assert (shown.status, shown.waits_for) == (TaskStatus.QUEUED, [{"task": first.id}])


@pytest.mark.shows("session.parallel")
async def test_parallel_tasks_read_the_context_and_do_not_save_it(house: House) -> None:
    session = await house.core.sessions.create()
    worker = await house.worker()
    await house.submit(session)
    [grant] = await worker.claim()
    await worker.complete(grant, context="kept")
    await house.core.links.leave(worker.link)
    parallel = await house.worker(parallel=True)
    await house.submit(session)
    [grant] = await parallel.claim()
    assert grant.context == "kept"
    await parallel.complete(grant, context="dropped")
    await house.submit(session)
    [grant] = await parallel.claim()
    assert grant.context == "kept"


@pytest.mark.shows("time.outage")
async def test_a_restarted_control_plane_waits_for_one_lease_before_it_gives_anything_away(
    make_house: MakeHouse,
) -> None:
    time = VirtualTime()
    time.install(asyncio.get_running_loop())
    try:
        house = await make_house(clock=time.time_of_day)
        gone = await house.worker()
        task = await house.submit(await house.core.sessions.create())
        await gone.claim()
        await time.advance(10)
        await house.restart()
        other = await house.worker()
        await time.advance(14.9)
        assert await other.claim() == []
        await time.advance(0.2)
        assert [grant.task_id for grant in await other.claim()] == [task.id]
    finally:
        time.remove()
