"""Items that have others work for them."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from arriero.core import names, records
from arriero.types.errors import Fenced, TooDeep, UnknownService
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import House, MakeHouse


async def test_the_outcome_of_a_child_is_given_to_its_parent(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    task = await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    outcome = await outer.call(parent, "inner", text='{"a": 1}')
    [child] = await inner.claim()
    assert (child.input, child.path, child.task_id, child.context) == ('{"a": 1}', "inner", task.id, None)
    await inner.complete(child, {"b": 2})
    ended = await outcome
    assert (ended.status, msgspec.json.decode(ended.value)) == (TaskStatus.COMPLETED, {"b": 2})
    await outer.complete(parent, "done")
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


async def test_a_child_that_fails_tells_its_parent_why_and_is_not_tried_by_it_again(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    outcome = await outer.call(parent, "inner")
    [child] = await inner.claim()
    await inner.fail(child, message="broken")
    ended = await outcome
    assert ended.status is TaskStatus.FAILED
    assert ended.error is not None
    assert (ended.error.message, ended.error.retryable) == ("broken", False)


async def test_the_first_child_takes_one_commit_and_so_does_the_next(house: House) -> None:
    outer, _ = await house.worker("outer"), await house.worker("inner")
    await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    for key in ("first", "second"):
        before = house.store.stats.commits  # type: ignore[attr-defined]  # counted by the stores themselves
        await outer.call(parent, "inner", key=key)
        assert house.store.stats.commits - before == 1  # type: ignore[attr-defined]  # as above


@pytest.mark.shows("again.children")
async def test_the_same_call_is_the_same_child_also_when_the_parent_runs_again(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    await outer.call(parent, "inner", key="first")
    [child] = await inner.claim()
    await inner.complete(child, 1)
    await house.core.claims.release(outer.link, {parent.item_id: parent.token})
    [again] = await outer.claim()
    assert msgspec.json.decode((await (await outer.call(again, "inner", key="first"))).value) == 1
    assert await inner.claim() == []
    second = await outer.call(again, "inner", key="second")
    [other] = await inner.claim()
    await inner.complete(other, 2)
    assert msgspec.json.decode((await second).value) == 2


@pytest.mark.shows("again.failed-child")
async def test_a_child_that_failed_is_done_anew_when_its_parent_is_tried_again(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    outcome = await outer.call(parent, "inner")
    [child] = await inner.claim()
    await inner.fail(child)
    await outcome
    assert (await (await outer.call(parent, "inner"))).status is TaskStatus.FAILED
    await outer.fail(parent, retryable=True)
    await house.core.claims.retry(parent.item_id)
    [again] = await outer.claim()
    outcome = await outer.call(again, "inner")
    [child] = await inner.claim()
    await inner.complete(child, "now")
    assert msgspec.json.decode((await outcome).value) == "now"


@pytest.mark.shows("cancel.children", "cancel.stale-parent")
async def test_children_end_with_their_parent_also_those_of_children(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    task = await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    await outer.call(parent, "inner")
    [child] = await inner.claim()
    waits = await inner.call(child, "inner")
    [grandchild] = await inner.claim()
    await house.core.tasks.cancel(task.session_id, task.id, "a test")
    assert (await outer.stops.get()).item_id == parent.item_id
    assert {(await inner.stops.get()).item_id, (await inner.stops.get()).item_id} == {child.item_id, grandchild.item_id}
    assert (await waits).status is TaskStatus.CANCELLED
    with pytest.raises(Fenced):
        await inner.complete(child)
    with pytest.raises(Fenced):
        await outer.call(parent, "inner", key="late")


@pytest.mark.shows("cancel.children")
async def test_a_core_that_starts_again_ends_the_children_that_were_left(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    task = await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    await outer.call(parent, "inner")
    [child] = await inner.claim()
    house.core.kernel.on_sweep = lambda _: None  # as if it had died right after the commit
    await house.core.tasks.cancel(task.session_id, task.id, "a test")
    core = await house.restart()
    ended = await core.children.outcome(child.item_id)
    assert ended.status is TaskStatus.CANCELLED
    assert await house.store.scan(names.ready("inner")) == []


@pytest.mark.parametrize("calls", [1, 2])
async def test_children_are_looked_for_at_the_end_of_their_parent_unless_all_have_ended(
    house: House, calls: int
) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    swept: list[str] = []
    house.core.kernel.on_sweep = swept.append
    await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    for number in range(calls):
        await outer.call(parent, "inner", key=str(number))
    [child] = await inner.claim()
    await inner.complete(child, 1)
    await outer.complete(parent, 1)
    assert swept == [parent.item_id] * (calls - 1)
    assert len(await house.store.scan(names.SWEEPS)) == calls - 1


async def test_a_thousand_children_of_one_parent(make_house: MakeHouse) -> None:
    house = await make_house()
    outer, inner = await house.worker("outer"), await house.worker("inner", slots=1000)
    await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    outcomes = await asyncio.gather(*(outer.call(parent, "inner", key=str(n)) for n in range(1000)))
    grants = []
    while len(grants) < 1000:
        grants += await inner.claim(1000 - len(grants))
    await asyncio.gather(*(inner.complete(grant, number) for number, grant in enumerate(grants)))
    values = [msgspec.json.decode((await outcome).value) for outcome in outcomes]
    assert sorted(values) == list(range(1000))


async def test_what_children_stream_stands_in_the_task_s_stream_with_its_path(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    task = await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    await outer.emit(parent, "before")
    outcome = await outer.call(parent, "inner")
    [child] = await inner.claim()
    await inner.emit(child, "within")
    await inner.complete(child)
    await outcome
    await outer.complete(parent)
    told = [(entry.get("path", ""), entry["data"]["value"]) for entry in await house.stream(task) if "data" in entry]
    assert told == [("", "before"), ("inner", "within")]


@pytest.mark.shows("nested.depth")
async def test_calls_beyond_the_limit_of_nesting_are_refused(make_house: MakeHouse) -> None:
    house = await make_house(max_nesting=1)
    worker = await house.worker("loop")
    await house.submit(await house.core.sessions.create(), "loop")
    [parent] = await worker.claim()
    await worker.call(parent, "loop")
    [child] = await worker.claim()
    with pytest.raises(TooDeep, match="CONTROL_PLANE_MAX_NESTING"):
        await worker.call(child, "loop")


async def test_a_call_of_an_unknown_service_names_those_that_are_known(house: House) -> None:
    worker = await house.worker("outer")
    await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await worker.claim()
    house.core.services._since = 0.0  # noqa: SLF001  # it is not young any more
    with pytest.raises(UnknownService, match="outer"):
        await worker.call(parent, "nowhere")


@pytest.mark.shows("claim.oldest")
async def test_children_of_an_older_task_come_before_a_younger_task(house: House) -> None:
    worker = await house.worker("loop")
    await house.submit(await house.core.sessions.create(), "loop")
    [parent] = await worker.claim()
    await house.submit(await house.core.sessions.create(), "loop")
    await worker.call(parent, "loop")
    [first] = await worker.claim()
    assert first.path == "loop"


@pytest.mark.shows("end.waiting")
async def test_a_task_whose_item_waits_for_a_child_says_so(house: House) -> None:
    outer, _ = await house.worker("outer"), await house.worker("inner")
    task = await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    outcome = await outer.call(parent, "inner")
    shown = await house.core.tasks.show(task.session_id, task.id)
    assert (shown.status, shown.waits_for) == (
        TaskStatus.WAITING,
        [{"service": "inner", "item_id": outcome.get_name()}],
    )


async def test_a_deleted_session_leaves_nothing_of_children(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    session = await house.core.sessions.create()
    await house.submit(session, "outer")
    [parent] = await outer.claim()
    waits = await outer.call(parent, "inner")
    [child] = await inner.claim()
    deeper = await inner.call(child, "inner")
    await house.core.sessions.delete(session)
    outcomes = await asyncio.gather(waits, deeper, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Fenced, Fenced]
    for collection in (names.ITEMS, names.TASKS, names.SWEEPS, names.children(parent.item_id), names.ready("inner")):
        assert await house.store.scan(collection) == []
    assert (await inner.stops.get()).item_id == child.item_id


async def test_a_lost_child_runs_again_and_a_poisoned_one_is_dead(make_house: MakeHouse) -> None:
    house = await make_house(max_losses=2, link_grace=0.0)
    outer = await house.worker("outer")
    task = await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    outcome = None
    for _ in range(2):
        inner = await house.worker("inner")
        outcome = outcome or await outer.call(parent, "inner")
        [_] = await inner.claim()
        inner.vanish()
        await house.core.links.give_back(inner.worker_id, lost=True)
    assert outcome is not None
    ended = await outcome
    assert ended.status is TaskStatus.DEAD
    await outer.complete(parent)
    restarts = [entry for entry in await house.stream(task) if entry["kind"] == "restarted"]
    assert [entry["path"] for entry in restarts] == ["inner"]
    item = await house.core.kernel.load(records.ITEM, names.ITEMS, outcome.get_name())
    assert item is not None
    assert item.record.losses == 2


async def test_a_task_whose_child_has_no_worker_says_which_service_lacks_one(make_house: MakeHouse) -> None:
    house = await make_house(link_grace=0.0)
    outer, inner = await house.worker("outer"), await house.worker("inner")
    task = await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    inner.vanish()
    await outer.call(parent, "inner")
    shown = await house.core.show(task.session_id, task.id)
    assert {"worker_of": "inner"} in shown.waits_for


@pytest.mark.shows("deadline.children")
async def test_a_child_has_what_remains_of_the_deadline_of_its_task(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    await house.submit(await house.core.sessions.create(), "outer", deadline=100.0)
    [parent] = await outer.claim()
    await outer.call(parent, "inner")
    [child] = await inner.claim()
    assert parent.deadline is not None
    assert child.deadline is not None
    assert 0 < child.deadline <= parent.deadline <= 100.0


@pytest.mark.shows("session.children")
async def test_children_take_no_part_in_their_session(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("inner")
    session = await house.core.sessions.create()
    before = await house.submit(session, "inner")
    [grant] = await inner.claim()
    await inner.complete(grant, context="kept")
    await house.submit(session, "inner", task_id="head")
    task = await house.submit(session, "outer")
    [parent] = await outer.claim()
    await outer.call(parent, "inner", key="1")
    await outer.call(parent, "inner", key="2")
    head, first, second = await inner.claim(8)  # the children wait neither for the session's task nor for each other
    assert (head.task_id, head.context) == ("head", "kept")
    assert [child.context for child in (first, second)] == [None, None]
    await inner.complete(first, context="of a child")
    await inner.complete(head)
    await house.submit(session, "inner")
    [following] = await inner.claim()
    assert following.context == "kept"
    assert (await house.core.listing.session(session)).task_ids == [before.id, "head", task.id, following.task_id]
