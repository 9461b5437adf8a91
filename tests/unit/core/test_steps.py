"""What is read of journals that the engine really wrote."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from arriero.core.steps import Steps, cut, labelled
from arriero.services.handlers import WorkflowHandler
from arriero.types.errors import NotFound
from arriero.types.history import HistoryEntry
from tests.unit.runtime.desk import Desk

done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


class Part(Event):
    number: int


class Whole(Event):
    total: int


class Work(Workflow):
    """Two parts at once, one of which is tried twice, and what they come to."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> list[Part]:
        done["split"] += 1
        await ctx.store.set("split", True)
        return [Part(number=1), Part(number=2)]

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def work(self, ev: Part) -> Whole:
        done[f"work {ev.number}"] += 1
        if ev.number == 2 and done["work 2"] == 1:
            raise ConnectionError("not yet")
        return Whole(total=ev.number * 10)

    @step
    async def join(self, ctx: Context, evs: list[Whole]) -> StopEvent:
        done["join"] += 1
        return StopEvent(result=[sum(each.total for each in evs), await ctx.store.get("split")])


def told(desk: Desk) -> list[HistoryEntry]:
    steps = Steps()
    return [entry for raw in written(desk) for entry in steps.read(raw)]


def written(desk: Desk) -> list[bytes]:
    return [json.dumps(entry).encode() for entry in desk.entries]


def cut_behind(desk: Desk, after: int | str) -> Desk:
    """Another item that goes on behind the step."""
    entries = cut(written(desk), after).entries
    other = Desk(**json.loads(desk.grant.input))
    other.entries, other.shape = [json.loads(bytes(entry)) for entry in entries], desk.shape
    return other.again()


async def ran() -> tuple[Desk, Any]:
    desk = Desk()
    handled = await desk.handle(WorkflowHandler(Work()))
    return desk, handled


async def test_steps_retries_and_their_times_are_read() -> None:
    desk, handled = await ran()
    assert handled.value == [30, True]
    entries = told(desk)
    steps = [(entry.kind, entry.step, entry.result, entry.finished) for entry in entries]
    assert steps[0] == ("step", "split", "2 Part", 1)
    assert sorted(steps[1:]) == [
        ("step", "work", "Whole", 2),
        ("step", "work#2", "Whole", 3),
        ("step_failed", "work", "", 0),
    ]
    [failed] = [entry for entry in entries if entry.kind == "step_failed"]
    assert failed.error is not None
    assert (failed.error.type, failed.error.message, failed.delay) == ("ConnectionError", "not yet", 0.01)
    assert all(entry.since is not None and entry.since <= entry.at for entry in entries)
    assert (handled.step, handled.took >= 0.0) == ("join", True)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_run_from_behind_any_finished_step_ends_the_same(number: int) -> None:
    desk, handled = await ran()
    finished = [entry for entry in told(desk) if entry.finished]
    done.clear()
    done["work 2"] = 1
    again = await cut_behind(desk, number).handle(WorkflowHandler(Work()))
    assert (again.value, done["split"], done["join"]) == (handled.value, 0, 1)
    assert done["work 1"] + done["work 2"] - 1 == len(finished) - number


async def test_a_step_that_is_not_there_is_named_with_those_that_are() -> None:
    desk, _ = await ran()
    with pytest.raises(NotFound, match=r"no step 'join' has finished .* 1 split, 2 work, 3 work#2"):
        cut(written(desk), "join")


def test_what_is_not_as_expected_is_passed_over() -> None:
    strange = [
        b'{"ticks": [5, {"type": "step_result"}, {"type": "add_event"}, {"type": "of tomorrow"}]}',
        b'{"other": 1}',
    ]
    steps = Steps()
    assert [entry.kind for raw in strange for entry in steps.read(raw)] == ["step"]
    assert labelled("a", 1) == "a"
