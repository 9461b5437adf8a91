"""What an orchestrator decides, taken apart into orders of work, closing messages and state."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from arriero.core import names, records
from arriero.core.kernel import Change, Kernel
from arriero.core.records import TaskRecord
from arriero.core.values import INPUT
from arriero.orchestrators.base import get_result_key
from arriero.orchestrators.simple import SimpleOrchestrator
from arriero.types.errors import ArrieroError, ErrorInfo
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import TaskDefinition, TaskResult, TaskStatus


@dataclass(slots=True)
class Order:
    """Work for one service; ``input`` None is the task's own."""

    service: str
    input: str | None = None


@dataclass(slots=True)
class Verdict:
    """How an item or a task ended."""

    status: TaskStatus
    value: msgspec.Raw = field(default_factory=lambda: records.NULL)
    error: ErrorInfo | None = None


@dataclass(slots=True)
class Decision:
    """What comes next for a task; ``verdict`` is its result should it end now."""

    orders: list[Order] = field(default_factory=list)
    closing: list[QueueMessage] = field(default_factory=list)
    verdict: Verdict | None = None


class OrchestratorError(ArrieroError):
    """The orchestrator raised, or gave what is no decision. The task fails with this."""

    code = "orchestrator_error"


class Decider:
    """Asks the orchestrator, with the session's state and the task's own notes put together as one dict.

    What the simplest one decides is known without asking it, and is decided for almost every task.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._orchestrator = kernel.orchestrator

    async def begin(self, change: Change, task: TaskRecord) -> Decision:
        """The first orders of a new task."""
        if type(self._orchestrator) is SimpleOrchestrator:
            return Decision([Order(task.service)])
        return await self._decide(change, task, None, None)

    async def proceed(self, change: Change, task: TaskRecord, verdict: Verdict) -> Decision:
        """What follows when an item has ended with this verdict."""
        asked = self._orchestrator
        if type(asked) is SimpleOrchestrator and asked.final_message_type is None:
            return Decision(verdict=verdict)
        return await self._decide(change, task, _result(task, verdict), verdict)

    async def _decide(
        self, change: Change, task: TaskRecord, result: TaskResult | None, verdict: Verdict | None
    ) -> Decision:
        await self._kernel.values.fill(task, INPUT)
        kept, version = await self._session_state(task)
        state = {**kept, **task.notes}
        if result is not None:
            state = await _asked(self._orchestrator.add_result_to_state(result, state))
        messages, state = await _asked(self._orchestrator.get_next_messages(definition(task), state))
        decision = _take_apart(messages)
        decision.verdict = _verdict(state.get(get_result_key(task.id)), result, verdict)
        self._keep(change, task, state, kept, version)
        return decision

    async def _session_state(self, task: TaskRecord) -> tuple[dict[str, Any], int]:
        if not self._orchestrator.uses_state:
            return {}, 0
        loaded = await self._kernel.load(records.STATE, names.STATES, task.session_id)
        return (loaded.record, loaded.version) if loaded else ({}, 0)

    def _keep(
        self, change: Change, task: TaskRecord, state: dict[str, Any], kept: dict[str, Any], version: int
    ) -> None:
        """Store the task's keys with the task and the others with the session."""
        if not self._orchestrator.uses_state:
            return
        own = {task.id, get_result_key(task.id)}
        task.notes = {key: _plain(value) for key, value in state.items() if key in own}
        shared = {key: _plain(value) for key, value in state.items() if key not in own}
        if shared != kept:
            change.put(names.STATES, task.session_id, shared, expect=version)


async def _asked(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except ArrieroError:
        raise
    except Exception as error:  # a user's code: whatever it raises is the task's failure
        raise OrchestratorError(f"the orchestrator raised {type(error).__name__}: {error}") from error


def _take_apart(messages: Any) -> Decision:
    decision = Decision()
    for message in messages:
        if not isinstance(message, QueueMessage):
            raise OrchestratorError(f"an orchestrator gives QueueMessage objects, not {type(message).__name__}")
        if message.action is ActionTypes.NEW_TASK:
            decision.orders.append(_order(message))
        else:
            decision.closing.append(message)
    return decision


def _order(message: QueueMessage) -> Order:
    data = message.data.get("task", message.data)
    text = data.get("input") if isinstance(data, dict) else None
    if text is not None and not isinstance(text, str):
        raise OrchestratorError(f"the input ordered of {message.type!r} must be text, not {type(text).__name__}")
    return Order(message.type, text)


def _verdict(named: Any, result: TaskResult | None, verdict: Verdict | None) -> Verdict | None:
    """The task's result: the one named in the state, else that of the last item."""
    if named is None or named is result:
        return verdict
    if isinstance(named, dict) and "task_id" in named and "result" in named:
        named = TaskResult.model_validate(named)
    if isinstance(named, TaskResult):
        value = named.value if named.value is not None else named.result
        error = msgspec.convert(named.error, ErrorInfo) if named.error else None
        return Verdict(named.status, msgspec.Raw(records.encode(value)), error)
    return Verdict(TaskStatus.COMPLETED, msgspec.Raw(records.encode(named)))


def _result(task: TaskRecord, verdict: Verdict) -> TaskResult:
    """What the orchestrator is told of an item."""
    error = msgspec.to_builtins(verdict.error) if verdict.error else None
    value = msgspec.json.decode(verdict.value)
    text = verdict.error.message if verdict.error else ""
    return TaskResult(
        task_id=task.id, result=text, value=value, status=verdict.status, error=error, attempts=task.attempts
    )


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, TaskResult) else value


def definition(task: TaskRecord) -> TaskDefinition:
    """The task as an orchestrator sees it."""
    return TaskDefinition(
        input=task.input,
        task_id=task.id,
        session_id=task.session_id,
        service_id=task.service,
        deadline=task.deadline,
        headers=task.headers,
        status=task.status,
        created_at=task.created_at,
    )


def keep_message(change: Change, task_id: str, number: int, message: QueueMessage, topic: str) -> str:
    """Put a closing message into the outbox, under an id that a repeat of the decision gives again."""
    key = f"{task_id}.{number}"
    sent = message.model_copy(update={"id_": key})
    record = records.OutboxRecord(topic=topic, message=msgspec.Raw(sent.model_dump_json().encode()))
    change.put(names.OUTBOX, key, record)
    return key
