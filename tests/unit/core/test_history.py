"""What is known of a task's past, and new tasks that are made of old ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from arriero.core import history, names
from arriero.core.inbox import Sent
from arriero.core.records import TaskRecord
from arriero.types.errors import Conflict, ErrorInfo, NotEnded, NotFound, TaskConflict, WorkflowChanged
from arriero.types.history import HistoryEntry, TaskHistory
from arriero.types.link import Grant
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Hand, House, MakeHouse, event

ACCEPTS = {"Answer": True}


async def begun(house: House, session: str | None = None, **fields: Any) -> tuple[Hand, TaskRecord, Grant]:
    worker = await house.worker("work", accepts=ACCEPTS, shape="s")
    task = await house.submit(session or await house.core.sessions.create(), **fields)
    [grant] = await worker.claim()
    return worker, task, grant


def given(name: str, at: float) -> dict[str, Any]:
    return {"type": "add_event", "event": {"qualified_name": f"flows.{name}"}, "stamped_at": at}


def result(step: str, taken: str, gave: str, at: float) -> dict[str, Any]:
    parts = [{"type": "result", "result": {"qualified_name": f"flows.{gave}"}}]
    return {
        "type": "step_result",
        "step_id": step,
        "event": {"qualified_name": f"flows.{taken}"},
        "result": parts,
        "stamped_at": at,
    }


async def three_steps(worker: Hand, grant: Grant) -> None:
    at = 1_700_000_000.0
    await worker.record(grant, 0, {"ticks": [given("Start", at), result("begin", "Start", "Next", at + 1)]})
    await worker.record(
        grant, 1, {"ticks": [given("Next", at + 1), result("go", "Next", "Next", at + 3)], "taken": [1]}
    )
    await worker.record(grant, 2, {"ticks": [given("Next", at + 3), result("go", "Next", "Last", at + 4)]})


async def whole(house: House, task: TaskRecord, **options: Any) -> TaskHistory:
    return await house.core.history.of(await house.core.tasks.get(None, task.id), **options)


def kinds(found: TaskHistory) -> list[str]:
    return [entry.kind for entry in found.entries]


def of_kind(found: TaskHistory, kind: str) -> list[HistoryEntry]:
    return [entry for entry in found.entries if entry.kind == kind]


async def test_a_task_that_goes_well_is_told_of_without_a_log(house: House) -> None:
    worker, task, grant = await begun(house)
    before = house.store.stats.commits  # type: ignore[attr-defined]  # counted by the stores themselves
    await worker.complete(grant, "done", event(0, "a"))
    assert house.store.stats.commits - before == 1  # type: ignore[attr-defined]  # as above
    found = await whole(house, task)
    assert kinds(found) == ["submitted", "ordered", "claimed", "event", "item_ended", "ended"]
    assert [entry.number for entry in found.entries] == [1, 2, 3, 4, 5, 6]
    assert of_kind(found, "claimed")[0].worker_id == worker.worker_id
    [item] = found.items
    assert (item.status, item.epoch, item.attempts, item.service) == (TaskStatus.COMPLETED, 1, 1, "work")
    assert item.started_at is not None
    assert item.ended_at is not None
    assert item.started_at <= item.ended_at
    assert (await house.store.head(names.item_log(grant.item_id))).seq == 0


async def test_losses_retries_and_who_had_it_are_told_with_their_reasons(house: House) -> None:
    worker, task, grant = await begun(house)
    worker.vanish()
    await house.core.links.give_back(worker.worker_id, lost=True)
    second = await house.worker("work", accepts=ACCEPTS)
    [grant] = await second.claim()
    await second.fail(grant, retryable=True, message="not now")
    await house.core.claims.retry(grant.item_id)
    [grant] = await second.claim()
    await house.core.claims.release(second.link, {grant.item_id: grant.token})
    [grant] = await second.claim()
    await second.fail(grant, message="never")
    await house.ended(task)
    found = await whole(house, task)
    claims = [(entry.epoch, entry.worker_id) for entry in of_kind(found, "claimed")]
    assert claims == [(1, worker.worker_id), (2, second.worker_id), (3, second.worker_id), (4, second.worker_id)]
    between = [kind for kind in kinds(found) if kind not in ("submitted", "ordered")]
    expected = ["claimed", "lost", "claimed", "retried", "claimed", "released", "claimed", "item_ended", "ended"]
    assert between == expected
    assert "did not come back" in of_kind(found, "lost")[0].reason
    [retried] = of_kind(found, "retried")
    assert retried.error is not None
    assert (retried.error.message, retried.attempt, retried.delay is not None) == ("not now", 1, True)
    assert found.error is not None
    assert found.error.message == "never"


async def test_steps_are_told_with_their_times(house: House) -> None:
    worker, task, grant = await begun(house)
    await three_steps(worker, grant)
    found = await whole(house, task)
    steps = [(step.finished, step.step, step.result, step.at - (step.since or 0)) for step in of_kind(found, "step")]
    assert steps == [(1, "begin", "Next", 1.0), (2, "go", "Next", 2.0), (3, "go#2", "Last", 1.0)]
    assert found.items[0].steps == 3


async def test_the_step_that_ended_the_run_is_told_though_it_is_not_in_the_journal(house: House) -> None:
    worker, task, grant = await begun(house)
    await three_steps(worker, grant)
    await worker.complete(grant, step="go", took=0.5)
    found = await whole(house, task)
    last = of_kind(found, "step")[-1]
    assert (last.step, last.finished, last.at) == ("go#3", 0, found.items[0].ended_at)
    assert last.at - (last.since or 0) == pytest.approx(0.5)
    assert found.items[0].steps == 3


async def test_the_step_that_failed_the_run_is_told(house: House) -> None:
    worker, task, grant = await begun(house)
    error = ErrorInfo(code="handler_error", message="no", type="E", details={"step": "go"})
    await worker.complete(grant, error=error)
    [failure] = of_kind(await whole(house, task), "step_failed")
    assert (failure.step, failure.error) == ("go", error)


async def test_a_step_that_fails_or_waits_is_told_of(house: House) -> None:
    worker, task, grant = await begun(house)
    at = 1_700_000_000.0
    failed = result("go", "Next", "", at + 1)
    raised = {"exception_type": "builtins.ValueError", "exception_message": "no"}
    failed["result"] = [{"type": "failed", "exception": raised, "retry_decision": {"delay": 5.0}}]
    waits = result("go", "Next", "", at + 7)
    waits["result"] = [{"type": "add_waiter", "event_type": "flows.Answer"}]
    woken = [{"type": "wakeup", "stamped_at": at + 6}, waits]
    await worker.record(grant, 0, {"ticks": [given("Next", at), failed]})
    await worker.record(grant, 1, {"ticks": woken})
    await worker.record(grant, 2, {"ticks": [given("Answer", at + 20), result("go", "Next", "Last", at + 21)]})
    found = await whole(house, task)
    told = [(entry.kind, entry.result, entry.since) for entry in found.entries if entry.kind.startswith("step")]
    expected = [("step_failed", "", at), ("step_waits", "Answer", at + 6), ("step", "Last", at + 20)]
    assert told == expected
    [failure] = of_kind(found, "step_failed")
    assert failure.error is not None
    assert (failure.error.type, failure.error.message, failure.delay) == ("ValueError", "no", 5.0)


async def test_waits_and_events_from_outside_are_told_and_their_data_on_request(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.record(grant, 0, {"ticks": []})
    assert await worker.wait(grant, "Answer", leave=True)
    assert (await whole(house, task)).items[0].waits_for == [{"events": ["Answer"]}]
    sent = Sent("work", "Answer", msgspec.Raw(b'{"response":"yes"}'), "yes")
    await house.core.inbox.send(task.session_id, task.id, sent)
    found = await whole(house, task)
    assert kinds(found) == ["submitted", "ordered", "claimed", "parked", "woken", "sent"]
    assert of_kind(found, "parked")[0].reason == "Answer"
    assert of_kind(found, "sent")[0].data is None
    told = of_kind(await whole(house, task, data=True), "sent")
    assert [(entry.type, entry.data) for entry in told] == [("Answer", {"response": "yes"})]


async def test_children_are_told_of_with_their_parents(house: House) -> None:
    worker, task, grant = await begun(house)
    helper = await house.worker("help")
    call = await worker.call(grant, "help")
    [child] = await helper.claim()
    await helper.complete(child, 1, event(0, "b"))
    await call
    found = await whole(house, task)
    assert [(item.service, item.path, item.parent) for item in found.items] == [
        ("work", "", None),
        ("help", "help", task.id),
    ]
    below = [entry.kind for entry in found.entries if entry.service == "help"]
    assert below == ["ordered", "claimed", "event", "item_ended"]


async def test_pages_of_a_history_hold_each_entry_once(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.complete(grant, None, *(event(number, number) for number in range(20)))
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await whole(house, task, after=after, limit=7, data=True)
        seen += [entry.number for entry in page.entries]
        after = page.following
    assert seen == list(range(1, 26))
    assert (await whole(house, task, after=100)).entries == []


async def test_what_is_beyond_the_limit_is_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, task, grant = await begun(house)
    await worker.complete(grant, None, *(event(number, number) for number in range(20)))
    monkeypatch.setattr(history, "MOST_ENTRIES", 10)
    found = await whole(house, task)
    assert (len(found.entries), found.left_out) == (12, {"entries": 13})


async def test_a_history_goes_with_its_session(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.fail(grant, retryable=True)
    assert (await house.store.head(names.item_log(grant.item_id))).seq == 1
    await house.core.sessions.delete(task.session_id)
    assert (await house.store.head(names.item_log(grant.item_id))).seq == 0
    assert await house.store.scan(names.DEAD) == []


# Forks and replays


async def ended(house: House) -> tuple[Hand, TaskRecord]:
    worker, task, grant = await begun(house, text='{"a": 1}', deadline=100.0)
    await three_steps(worker, grant)
    await worker.fail(grant)
    return worker, await house.ended(task)


@pytest.mark.parametrize(("after_step", "number", "length"), [(1, 1, 1), ("go", 2, 2), ("go#1", 2, 2), ("go#2", 3, 3)])
async def test_a_fork_begins_with_the_journal_up_to_a_finished_step(
    house: House, after_step: int | str, number: int, length: int
) -> None:
    worker, old = await ended(house)
    new = await house.core.copies.fork(old, after_step)
    assert (new.forked_from, new.forked_after, new.session_id) == (old.id, number, old.session_id)
    assert (new.input, new.deadline) == ('{"a": 1}', 100.0)
    [grant] = await worker.claim()
    entries = [msgspec.json.decode(entry) for entry in grant.journal]
    assert (grant.item_id, grant.shape, len(entries)) == (new.id, "s", length)
    assert all("taken" not in entry for entry in entries)
    assert [step.reason for step in of_kind(await whole(house, new), "step")] == [f"in task {old.id}"] * number


async def test_a_fork_cuts_within_an_entry_that_holds_several_steps(house: House) -> None:
    worker, task, grant = await begun(house)
    ticks = [result("one", "Start", "A", 1.0), result("two", "Start", "B", 2.0), given("B", 3.0)]
    await worker.record(grant, 0, {"ticks": ticks})
    await worker.complete(grant)
    await house.core.copies.fork(await house.ended(task), "one")
    [grant] = await worker.claim()
    assert [msgspec.json.decode(entry) for entry in grant.journal] == [{"ticks": ticks[:1]}]


@pytest.mark.shows("journal.summary")
async def test_a_fork_of_a_long_run_starts_from_what_says_all(house: House) -> None:
    worker, task, grant = await begun(house)
    await three_steps(worker, grant)
    await worker.record(grant, 3, {"broker": {}, "taken": [1]}, base=True)
    await worker.record(grant, 4, {"ticks": [result("go", "Next", "Last", 1_700_000_009.0)]})
    await worker.complete(grant)
    await house.core.copies.fork(await house.ended(task), 4)
    [grant] = await worker.claim()
    assert (grant.skipped, len(grant.journal)) == (3, 2)
    await worker.record(grant, 5, {"ticks": []})
    assert (await house.store.head(names.journal_log(grant.item_id))).seq == 6


async def test_a_step_that_has_not_finished_cannot_be_forked_from(house: House) -> None:
    _, old = await ended(house)
    with pytest.raises(NotFound, match=r"no step 4 .* 1 begin, 2 go, 3 go#2"):
        await house.core.copies.fork(old, 4)


async def test_a_task_without_a_journal_cannot_be_forked(house: House) -> None:
    worker, task, grant = await begun(house)
    await worker.complete(grant)
    with pytest.raises(Conflict, match="has no journal"):
        await house.core.copies.fork(await house.ended(task), 1)


async def test_a_task_that_goes_on_is_neither_forked_nor_replayed(house: House) -> None:
    _, task, _ = await begun(house)
    for again in (house.core.copies.fork(task, 1), house.core.copies.replay(task)):
        with pytest.raises(NotEnded, match="has not ended"):
            await again


async def test_a_fork_onto_other_steps_is_refused(house: House) -> None:
    worker, old = await ended(house)
    await house.worker("work", shape="another")
    await house.core.copies.fork(old, 1)  # one of the workers has the steps
    worker.vanish()
    with pytest.raises(WorkflowChanged, match="replay it instead"):
        await house.core.copies.fork(old, 1)


async def test_the_same_fork_again_is_the_same_task(house: House) -> None:
    _, old = await ended(house)
    first = await house.core.copies.fork(old, 1, task_id="f1")
    assert (await house.core.copies.fork(old, 1, task_id="f1")).created_at == first.created_at
    with pytest.raises(TaskConflict):
        await house.core.copies.fork(old, 2, task_id="f1")


async def test_a_replay_has_the_same_input_in_whichever_session(make_house: MakeHouse) -> None:
    house = await make_house(large_value=10)
    worker, task, grant = await begun(house, text='{"large": "input"}')
    await worker.complete(grant)
    other = await house.core.sessions.create()
    new = await house.core.copies.replay(await house.ended(task), other)
    [grant] = await worker.claim()
    assert (grant.input, grant.session_id, new.replay_of, grant.journal) == ('{"large": "input"}', other, task.id, [])
