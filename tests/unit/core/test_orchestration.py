"""People's own orchestrators, and documented messages from other producers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from arriero.core import names
from arriero.orchestrators import BaseOrchestrator, SimpleOrchestrator, get_result_key
from arriero.types.errors import Fenced, InvalidInput, UnknownService
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import TaskDefinition, TaskResult, TaskStatus
from tests.unit.core.conftest import Hand, House, MakeHouse


class TwoSteps(BaseOrchestrator):
    """First ``draft``, then ``polish`` with the draft as its input; counts its tasks in the session's state."""

    async def get_next_messages(
        self, task_def: TaskDefinition, state: dict[str, Any]
    ) -> tuple[list[QueueMessage], dict[str, Any]]:
        own = state.get(task_def.task_id)
        if own is None:
            state = {**state, task_def.task_id: {"step": "draft"}, "tasks": state.get("tasks", 0) + 1}
            return [QueueMessage(type="draft", action=ActionTypes.NEW_TASK, data=task_def.model_dump())], state
        if own["step"] == "drafted":
            state = {**state, task_def.task_id: {"step": "polish"}}
            data = {"input": own["text"], "task_id": task_def.task_id}
            return [QueueMessage(type="polish", action=ActionTypes.NEW_TASK, data=data)], state
        return [], state

    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> dict[str, Any]:
        own = state[result.task_id]
        if result.status is not TaskStatus.COMPLETED:
            return {**state, result.task_id: {"step": "failed"}, get_result_key(result.task_id): result}
        if own["step"] == "draft":
            return {**state, result.task_id: {"step": "drafted", "text": result.result}}
        return {**state, get_result_key(result.task_id): {"polished": result.value}}


async def two_workers(house: House) -> tuple[Hand, Hand]:
    return await house.worker("draft"), await house.worker("polish")


@pytest.mark.shows("end.last-item", "orchestrator.state", "orchestrator.result")
async def test_an_orchestrator_of_ones_own_orders_one_service_after_another(make_house: MakeHouse) -> None:
    house = await make_house(TwoSteps())
    draft, polish = await two_workers(house)
    session = await house.core.sessions.create()
    task = await house.submit(session, "draft", '{"topic": "llamas"}')
    [first] = await draft.claim()
    assert first.input == '{"topic": "llamas"}'
    await draft.complete(first, "a draft")
    [second] = await polish.claim()
    assert (second.input, second.task_id) == ("a draft", task.id)
    await polish.complete(second, "fine")
    ended = await house.ended(task)
    assert msgspec.json.decode(ended.value) == {"polished": "fine"}
    assert await house.core.sessions.state(session) == {"tasks": 1}


@pytest.mark.shows("end.one-commit", "orchestrator.state")
async def test_its_decisions_survive_a_restart_between_the_steps(make_house: MakeHouse) -> None:
    house = await make_house(TwoSteps())
    draft, polish = await two_workers(house)
    task = await house.submit(await house.core.sessions.create(), "draft")
    [first] = await draft.claim()
    await draft.complete(first, "a draft")
    polish.core = await house.restart()
    await polish.connect()
    [second] = await polish.claim()
    await polish.complete(second, "fine")
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


@pytest.mark.shows("orchestrator.failed")
async def test_a_failed_item_reaches_the_orchestrator_with_its_error(make_house: MakeHouse) -> None:
    house = await make_house(TwoSteps())
    draft, _ = await two_workers(house)
    task = await house.submit(await house.core.sessions.create(), "draft")
    [first] = await draft.claim()
    await draft.fail(first, message="no ink")
    ended = await house.ended(task)
    assert ended.status is TaskStatus.FAILED
    assert ended.error is not None
    assert ended.error.message == "no ink"


class Broken(BaseOrchestrator):
    async def get_next_messages(
        self, task_def: TaskDefinition, state: dict[str, Any]
    ) -> tuple[list[QueueMessage], dict[str, Any]]:
        if get_result_key(task_def.task_id) in state:
            raise RuntimeError("cannot decide")
        return [QueueMessage(type="work", action=ActionTypes.NEW_TASK)], state

    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, get_result_key(result.task_id): result}


@pytest.mark.shows("orchestrator.error")
async def test_an_orchestrator_that_raises_fails_the_task_by_name(make_house: MakeHouse) -> None:
    house = await make_house(Broken())
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.complete(grant)
    ended = await house.ended(task)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (TaskStatus.FAILED, "orchestrator_error")
    assert "RuntimeError: cannot decide" in ended.error.message


@pytest.mark.shows("orchestrator.error")
async def test_an_order_for_an_unknown_service_fails_the_task(make_house: MakeHouse) -> None:
    house = await make_house(TwoSteps())
    draft = await house.worker("draft")
    task = await house.submit(await house.core.sessions.create(), "draft")
    [first] = await draft.claim()
    await draft.complete(first, "a draft")
    ended = await house.ended(task)
    assert ended.error is not None
    assert ended.error.code == UnknownService.code


@pytest.mark.shows("end.outbox")
async def test_the_final_message_is_published_once_with_the_result(make_house: MakeHouse) -> None:
    house = await make_house(SimpleOrchestrator(0, "human"))
    worker = await house.worker()
    subscription = await house.queue.subscribe("llama_deploy.human")
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    await worker.complete(grant, "so be it")
    message = (await anext(subscription)).message
    assert (message.action, message.data["result"]) == (ActionTypes.COMPLETED_TASK, "so be it")
    assert message.id_ == f"{task.id}.0"


@pytest.mark.shows("message.taken")
async def test_a_documented_new_task_message_makes_its_session_and_runs(house: House) -> None:
    worker = await house.worker()
    data = {"input": "{}", "task_id": "t1", "agent_id": "work"}
    message = QueueMessage(type="control_plane", action=ActionTypes.NEW_TASK, data=data)
    await house.core.messages.take(message)
    await house.core.messages.take(message)
    assert [grant.task_id for grant in await worker.claim(8)] == ["t1"]


@pytest.mark.shows("message.taken")
async def test_a_documented_result_ends_a_task_that_nobody_claimed(house: House) -> None:
    await house.worker()
    task = await house.submit(await house.core.sessions.create())
    told = {"task_id": task.id, "session_id": task.session_id, "data": {"value": 1}, "index": 0}
    await house.core.messages.take(QueueMessage(action=ActionTypes.TASK_STREAM, data=told))
    result = {"task_id": task.id, "history": [], "result": "done", "data": {}}
    await house.core.messages.take(QueueMessage(action=ActionTypes.COMPLETED_TASK, data=result))
    assert bytes((await house.ended(task)).value) == b'"done"'
    assert await house.told(task) == [1]


@pytest.mark.shows("message.refused")
async def test_a_documented_result_for_a_claimed_task_is_refused(house: House) -> None:
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    await worker.claim()
    result = {"task_id": task.id, "history": [], "result": "forged", "data": {}}
    with pytest.raises(Fenced):
        await house.core.messages.take(QueueMessage(action=ActionTypes.COMPLETED_TASK, data=result))


@pytest.mark.parametrize("action", [None, ActionTypes.NEW_TOOL_CALL, ActionTypes.REQUEST_FOR_HELP])
async def test_any_other_message_is_refused(house: House, action: ActionTypes | None) -> None:
    with pytest.raises(InvalidInput, match="new_task, completed_task, task_stream"):
        await house.core.messages.take(QueueMessage(action=action))


@pytest.mark.shows("end.outbox")
async def test_a_message_that_was_kept_when_the_control_plane_died_is_sent_under_the_same_id(
    make_house: MakeHouse,
) -> None:
    house = await make_house(SimpleOrchestrator(0, "human"))
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await worker.claim()
    house.core.kernel.on_outbox = lambda _: None  # as if it had died right after the commit
    await worker.complete(grant, "so be it")
    subscription = await house.queue.subscribe("llama_deploy.human")
    assert len(await house.store.scan(names.OUTBOX)) == 1
    await house.restart()
    message = (await anext(subscription)).message
    assert (message.id_, message.data["result"]) == (f"{task.id}.0", "so be it")
