"""When workers are rung for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest

from arriero.core.records import ServiceRecord
from arriero.testing import VirtualTime
from tests.unit.core.conftest import Hand, House, MakeHouse


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    """The time of the test's loop, from when it is installed."""
    time = VirtualTime()
    yield time
    time.remove()


async def rings(house: House) -> int:
    return await house.queue.depth("llama_deploy.work")


async def idle(house: House, slots: int = 8) -> Hand:
    worker = await house.worker(slots=slots)
    assert await worker.claim(slots) == []
    return worker


async def submit(house: House, count: int) -> None:
    for _ in range(count):
        await house.submit(await house.core.sessions.create())
    await house.core.rings.settled()


@pytest.mark.shows("ring.free-slots")
async def test_one_ring_stands_for_all_items_until_a_claim_answers_it(house: House) -> None:
    worker = await idle(house)
    await submit(house, 5)
    assert await rings(house) == 1
    assert len(await worker.claim(8)) == 5


@pytest.mark.shows("ring.ready")
async def test_an_item_that_comes_after_the_claim_is_rung_for_again(house: House) -> None:
    worker = await idle(house)
    await submit(house, 1)
    await worker.claim(4)
    await submit(house, 1)
    assert await rings(house) == 2


@pytest.mark.shows("ring.free-slots")
async def test_nobody_is_rung_for_while_all_workers_are_busy(house: House) -> None:
    worker = await idle(house, slots=1)
    await submit(house, 1)
    await worker.claim(1)
    before = await rings(house)
    await submit(house, 3)
    assert await rings(house) == before


async def test_what_one_worker_leaves_is_rung_for_while_another_is_idle(house: House) -> None:
    busy, _ = await idle(house, slots=1), await idle(house)
    await submit(house, 3)
    before = await rings(house)
    await busy.claim(1)
    await house.core.rings.settled()
    assert await rings(house) == before + 1


async def test_a_ring_that_came_to_a_full_worker_is_sent_again_for_the_idle_one(house: House) -> None:
    busy, _ = await idle(house, slots=1), await idle(house)
    await submit(house, 2)
    await busy.claim(1)
    await house.core.rings.settled()
    before = await rings(house)
    await busy.claim(0)
    await house.core.rings.settled()
    assert await rings(house) == before + 1


async def test_a_service_without_our_workers_is_rung_for_with_every_task(house: House) -> None:
    await house.core.services.register(ServiceRecord(name="work"))
    await submit(house, 3)
    assert await rings(house) == 3


@pytest.mark.shows("ring.free-slots")
@pytest.mark.parametrize("slots", [1, 3])
async def test_no_more_rings_are_under_way_than_there_are_free_slots(
    make_house: MakeHouse, time: VirtualTime, slots: int
) -> None:
    time.install(asyncio.get_running_loop())
    house = await make_house(clock=time.time_of_day)
    worker, other = await idle(house, slots=slots), await idle(house, slots=slots)
    for _ in range(15):  # nobody claims
        await submit(house, 1)
        await time.advance(0.1)
    assert house.core.rings.sent == 2 * slots
    await other.claim(1)  # one ring less is under way, and one slot is free
    await submit(house, 1)
    assert house.core.rings.sent == 2 * slots
    await time.advance(2.5)  # what was sent counts as lost
    assert house.core.rings.sent > 2 * slots
    assert len(await worker.claim(slots)) == slots


@pytest.mark.shows("ring.again")
async def test_what_nobody_claims_is_rung_for_again_and_less_and_less_often(
    make_house: MakeHouse, time: VirtualTime
) -> None:
    time.install(asyncio.get_running_loop())
    house = await make_house(clock=time.time_of_day)
    worker = await idle(house)
    await submit(house, 1)
    at, sent = [time.passed], house.core.rings.sent
    while len(at) < 9:  # each ring is lost: nobody claims
        await time.advance(0.25)
        if house.core.rings.sent > sent:
            at, sent = [*at, time.passed], house.core.rings.sent
    pauses = [round(later - earlier) for earlier, later in pairwise(at)]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert len(await worker.claim()) == 1
    await time.advance(1000)
    assert house.core.rings.sent == sent
