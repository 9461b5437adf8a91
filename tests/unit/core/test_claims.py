"""Claims, tokens, losses and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from arriero.core import items, names, records
from arriero.types.errors import Fenced, PayloadTooLarge
from arriero.types.link import Grant
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Clock, Hand, House, MakeHouse, event


@pytest.mark.shows("claim.once")
async def test_a_claimed_item_is_granted_to_nobody_else(house: House) -> None:
    first, second = await house.worker(), await house.worker()
    await house.submit(await house.core.sessions.create())
    assert len(await first.claim()) == 1
    assert await second.claim() == []


@pytest.mark.shows("claim.once")
async def test_many_workers_at_once_share_the_items_without_doubles(house: House) -> None:
    workers = [await house.worker() for _ in range(5)]
    for _ in range(40):
        await house.submit(await house.core.sessions.create())
    grants = [grant for some in await asyncio.gather(*(w.claim(20) for w in workers)) for grant in some]
    assert len({grant.item_id for grant in grants}) == len(grants) == 40


@pytest.mark.shows("claim.brings")
async def test_a_report_ends_the_task_with_its_value(house: House) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create(), text='{"a": 1}')
    [grant] = await worker.claim()
    assert (grant.input, grant.attempt, grant.epoch) == ('{"a": 1}', 1, 1)
    await worker.complete(grant, {"b": [1, None]})
    ended = await house.ended(task)
    assert (ended.status, bytes(ended.value)) == (TaskStatus.COMPLETED, b'{"b": [1, null]}')


@pytest.mark.shows("end.repeat")
async def test_a_repeated_report_is_taken_again_silently(house: House) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.complete(grant, 1)
    await worker.complete(grant, 2)
    assert bytes((await house.ended(task)).value) == b"1"


@pytest.mark.shows("fencing.refused")
async def test_a_fenced_worker_can_neither_stream_nor_report(make_house: MakeHouse) -> None:
    house = await make_house(lease=0.05)
    stopped, other = await house.worker(), await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [old] = await stopped.claim()
    grants = await until_granted(house, other)
    with pytest.raises(Fenced):
        await stopped.emit(old, "late")
    with pytest.raises(Fenced):
        await stopped.complete(old, "late")
    await other.complete(grants[0], "right")
    assert bytes((await house.ended(task)).value) == b'"right"'
    assert house.core.links.refused == 2


async def until_granted(house: House, worker: Hand) -> list[Grant]:
    """Grants, once an item was given back: the ring tells."""
    subscription = await house.queue.subscribe("llama_deploy.work")
    async for delivery in subscription:
        await delivery.ack()
        grants = await worker.claim()
        if grants:
            await subscription.aclose()
            return grants
    raise AssertionError("no ring came")


@pytest.mark.shows("fencing.good-until")
async def test_a_lapsed_token_stays_good_until_the_next_claim(make_house: MakeHouse) -> None:
    house = await make_house(lease=0.05)
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await house.core.links.expire(worker.worker_id)
    await worker.complete(grant, "still mine")
    assert bytes((await house.ended(task)).value) == b'"still mine"'
    assert await worker.claim() == []


@pytest.mark.shows("ring.ready", "fencing.restarted", "link.grace", "retry.losses")
async def test_a_closed_link_gives_its_items_to_others_after_the_grace(make_house: MakeHouse) -> None:
    house = await make_house(link_grace=0.0)
    lost, other = await house.worker(), await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await lost.claim()
    await lost.emit(grant, "begun")
    lost.vanish()
    [again] = await until_granted(house, other)
    assert (again.epoch, again.attempt) == (2, 1)
    await other.complete(again, "done", event(0, "begun again"))
    kinds = [entry["kind"] for entry in await house.stream(task)]
    assert kinds == ["event", "restarted", "event", "end"]


@pytest.mark.shows("link.back")
async def test_a_worker_that_comes_back_keeps_what_it_holds(house: House) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    worker.vanish()
    await worker.connect()
    assert worker.stale == []
    await worker.complete(grant, 7)
    assert bytes((await house.ended(task)).value) == b"7"


@pytest.mark.shows("claim.lost-answer")
async def test_a_grant_that_never_arrived_is_queued_again_at_the_reconnect(house: House) -> None:
    worker = await house.worker()
    await house.submit(await house.core.sessions.create())
    await worker.claim()
    worker.held.clear()
    worker.vanish()
    await worker.connect()
    [again] = await worker.claim()
    item = await house.core.kernel.load(records.ITEM, names.ITEMS, again.item_id)
    assert item is not None
    assert (item.record.losses, again.epoch) == (0, 2)


@pytest.mark.shows("end.failed-dead")
async def test_an_item_that_outlives_too_many_workers_is_dead(make_house: MakeHouse) -> None:
    house = await make_house(link_grace=0.0, max_losses=3)
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [_] = await worker.claim()
    for _ in range(2):
        worker.vanish()
        worker = await house.worker()
        await until_granted(house, worker)
    worker.vanish()
    ended = await house.ended(task)
    assert ended.status is TaskStatus.DEAD
    assert ended.error is not None
    assert (ended.error.code, ended.error.details["losses"]) == ("task_dead", 3)


@pytest.mark.shows("fencing.restarted", "retry.which")
async def test_an_error_that_may_pass_is_tried_again_and_others_are_not(house: House) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    task = await house.submit(session)
    [grant] = await worker.claim()
    await worker.fail(grant, retryable=True)
    await house.core.claims.retry(grant.item_id)
    [again] = await worker.claim()
    assert (again.attempt, again.epoch) == (2, 2)
    await worker.fail(again, message="for good")
    ended = await house.ended(task)
    assert ended.status is TaskStatus.FAILED
    assert ended.error is not None
    assert (ended.error.message, ended.attempts) == ("for good", 2)
    assert [entry["kind"] for entry in await house.stream(task)] == ["restarted", "end"]


@pytest.mark.shows("end.failed-dead")
async def test_retries_are_used_up(make_house: MakeHouse) -> None:
    house = await make_house()
    house.orchestrator.max_retries = 1
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    for _ in range(2):
        [grant] = await worker.claim()
        await worker.fail(grant, retryable=True)
        await house.core.claims.retry(grant.item_id)
    assert (await house.ended(task)).status is TaskStatus.FAILED


async def test_a_waiting_retry_is_claimed_by_nobody(house: House) -> None:
    worker = await house.worker()
    await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.fail(grant, retryable=True)
    assert await worker.claim() == []


@pytest.mark.shows("run.once")
async def test_repeated_events_are_dropped_even_after_a_restart(house: House) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.emit(grant, "a", "b")
    await worker.emit(grant, "a", "b", "c")
    worker.core = await house.restart()
    await worker.connect()
    await worker.emit(grant, "b", "c", "d", first=1)
    await worker.complete(grant)
    assert await house.told(task) == ["a", "b", "c", "d"]


async def test_released_items_are_queued_again_without_a_loss(house: House) -> None:
    worker = await house.worker()
    await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await house.core.claims.release(worker.link, {grant.item_id: grant.token})
    [again] = await worker.claim()
    item = await house.core.kernel.load(records.ITEM, names.ITEMS, again.item_id)
    assert item is not None
    assert item.record.losses == 0


@pytest.mark.shows("run.drain")
async def test_a_worker_that_leaves_gives_back_what_it_holds(house: House) -> None:
    worker, other = await house.worker(), await house.worker()
    await house.submit(await house.core.sessions.create())
    await worker.claim()
    await house.core.links.leave(worker.link)
    assert len(await other.claim()) == 1


async def test_an_event_beyond_the_limit_is_refused_even_if_its_worker_sends_it(make_house: MakeHouse) -> None:
    house = await make_house(max_event=100)
    session = await house.core.sessions.create()
    hand = await house.worker()
    task = await house.submit(session)
    [grant] = await hand.claim()
    with pytest.raises(PayloadTooLarge, match="CONTROL_PLANE_MAX_EVENT"):
        await hand.emit(grant, "fine", "x" * 200)
    with pytest.raises(PayloadTooLarge):
        await hand.complete(grant, None, event(0, "x" * 200))
    await hand.emit(grant, "fine")
    end = event(1, "x" * 200)
    end.last = True
    await hand.complete(grant, None, end)
    assert await house.told(task) == ["fine", "x" * 200]


WRITES: dict[str, Callable[[Hand, Grant], Awaitable[Any]]] = {
    "stream": lambda hand, grant: hand.emit(grant, "late"),
    "journal": lambda hand, grant: hand.record(grant, 0, "late"),
    "child": lambda hand, grant: hand.call(grant, "work"),
    "wait": lambda hand, grant: hand.wait(grant, "Answer"),
    "result": lambda hand, grant: hand.complete(grant, "late"),
    "failure": lambda hand, grant: hand.fail(grant),
    "context": lambda hand, grant: hand.complete(grant, "late", context="late"),
}


@pytest.mark.shows("fencing.refused", "cancel.stale-parent")
@pytest.mark.parametrize("write", WRITES)
async def test_nothing_that_an_old_token_writes_counts(house: House, write: str) -> None:
    stopped, other = await house.worker(), await house.worker()
    session = await house.core.sessions.create()
    task = await house.submit(session)
    [old] = await stopped.claim()
    await house.core.links.expire(stopped.worker_id)
    [new] = await other.claim()
    with pytest.raises(Fenced):
        await WRITES[write](stopped, old)
    await other.complete(new, "right")
    assert bytes((await house.ended(task)).value) == b'"right"'
    assert await house.told(task) == []
    await house.submit(session)
    [following] = await other.claim()
    assert following.context is None


@pytest.mark.shows("deadline.claim")
async def test_a_claim_gives_nothing_whose_deadline_has_passed(make_house: MakeHouse) -> None:
    clock = Clock()
    house = await make_house(clock=clock)
    worker = await house.worker()
    await house.submit(await house.core.sessions.create(), deadline=10.0)
    clock.now += 11.0  # by the clock; the timer that ends it has not rung yet
    assert await worker.claim() == []


@pytest.mark.shows("retry.pauses")
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_pauses_between_attempts_double_up_to_half_a_minute_and_chance_shortens_them_by_half(chance: float) -> None:
    pauses = [items.backoff(attempt, None, chance) / (0.5 + chance / 2) for attempt in range(1, 10)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert items.backoff(1, 7.0, chance) == 7.0  # an error may ask for more
    assert 0.25 <= items.backoff(1, None) <= 0.5
