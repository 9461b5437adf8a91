"""Who gets the slots of a worker."""

import asyncio

import pytest

from arriero.services.slots import Slots


@pytest.mark.shows("wait.slot")
async def test_an_item_that_wants_its_slot_back_comes_before_new_claims() -> None:
    slots = Slots(1)
    slots.ask(1)
    slots.answered(1, 1)
    back = asyncio.create_task(slots.regain())
    await asyncio.sleep(0)
    slots.give_back()
    assert (slots.free, slots.used) == (0, 1)
    await back


async def test_slots_that_a_claim_did_not_fill_go_to_those_that_want_one_back() -> None:
    slots = Slots(2)
    slots.ask(2)
    back = asyncio.create_task(slots.regain())
    await asyncio.sleep(0)
    assert not back.done()
    slots.answered(2, 1)
    await back
    assert (slots.used, slots.free) == (2, 0)


async def test_who_gives_up_waiting_leaves_no_slot_taken() -> None:
    slots = Slots(1)
    slots.seize()
    back = asyncio.create_task(slots.regain())
    await asyncio.sleep(0)
    back.cancel()
    with pytest.raises(asyncio.CancelledError):
        await back
    slots.give_back()
    assert (slots.used, slots.free) == (0, 1)


async def test_a_slot_that_came_together_with_the_cancellation_is_passed_on() -> None:
    slots = Slots(1)
    slots.seize()
    first, second = asyncio.create_task(slots.regain()), asyncio.create_task(slots.regain())
    await asyncio.sleep(0)
    slots.give_back()
    first.cancel()
    await asyncio.wait({first, second})
    assert (first.cancelled(), second.cancelled(), slots.used) == (True, False, 1)


async def test_a_slot_passes_over_who_was_just_cancelled() -> None:
    slots = Slots(1)
    slots.seize()
    first, second = asyncio.create_task(slots.regain()), asyncio.create_task(slots.regain())
    await asyncio.sleep(0)
    first.cancel()
    slots.give_back()
    await asyncio.wait({first, second})
    assert (first.cancelled(), second.cancelled(), slots.used) == (True, False, 1)
