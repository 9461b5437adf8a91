"""Which end of a task wins, and decisions that meet a change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arriero.core import names
from arriero.orchestrators import BaseOrchestrator
from arriero.state_stores.base import Put
from arriero.types.errors import Fenced
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import TaskDefinition, TaskResult, TaskStatus
from tests.unit.core.conftest import House
from tests.unit.core.gates import puts
from tests.unit.core.test_races import gated


class Counting(BaseOrchestrator):
    """Orders one item and counts the results of its session."""

    async def get_next_messages(
        self, task_def: TaskDefinition, state: dict[str, Any]
    ) -> tuple[list[QueueMessage], dict[str, Any]]:
        if task_def.task_id in state:
            return [], state
        order = QueueMessage(type=task_def.service_id or "", action=ActionTypes.NEW_TASK, data={})
        return [order], {**state, task_def.task_id: 1}

    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "results": state.get("results", 0) + 1}


@pytest.mark.shows("end.decided-again")
async def test_a_decision_that_meets_a_change_of_the_state_is_made_again() -> None:
    house = await gated(Counting())
    worker = await house.worker()
    session = await house.core.sessions.create()
    task = await house.submit(session)
    [grant] = await worker.claim()
    gate = house.store.hold(puts("states", "results"))
    reporting = asyncio.ensure_future(worker.complete(grant, 1))
    await gate.arrived.wait()
    document = await house.store.get(names.STATES, session)
    await house.store.commit([Put(names.STATES, session, b'{"results":41}', document.version if document else 0)])
    gate.open.set()
    await reporting
    assert (await house.ended(task)).status is TaskStatus.COMPLETED
    assert await house.core.sessions.state(session) == {"results": 42}
    await house.core.aclose()


ENDS = {"result": TaskStatus.COMPLETED, "cancel": TaskStatus.CANCELLED, "deadline": TaskStatus.TIMED_OUT}


@pytest.mark.shows("end.first-wins")
@pytest.mark.parametrize("first", ENDS)
async def test_the_first_end_wins_and_nothing_changes_it(house: House, first: str) -> None:
    worker = await house.worker()
    session = await house.core.sessions.create()
    task = await house.submit(session, deadline=0.01 if first == "deadline" else 1000.0)
    [grant] = await worker.claim()
    if first == "result":
        await worker.complete(grant, 1)
    elif first == "cancel":
        await house.core.tasks.cancel(session, task.id, "first")
    before = await house.ended(task)
    await house.core.tasks.cancel(session, task.id, "second")
    await house.core.tasks.expire(task.id)
    if first != "result":
        with pytest.raises(Fenced):
            await worker.complete(grant, 2)
    after = await house.core.tasks.get(session, task.id)
    assert after.status is ENDS[first]
    assert after == before
    assert [entry["kind"] for entry in await house.stream(task)].count("end") == 1
