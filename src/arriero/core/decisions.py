"""What an orchestrator decides, taken apart into orders of work, closing messages and state."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Coroutine
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

#: Seconds within which an orchestrator's answer is waited for by those who hold the session's turn.
QUICK = 0.05
#: Seconds that an orchestrator gets to end once nobody wants its answer.
PATIENCE = 2.0
PAIR = 2


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
    """What comes next for a task; ``verdict`` is its result should it end now.

    ``notes`` are the task's from now on, and ``state`` is the session's, decided on at ``version``; None: as it is.
    """

    orders: list[Order] = field(default_factory=list)
    closing: list[QueueMessage] = field(default_factory=list)
    verdict: Verdict | None = None
    notes: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    version: int = 0


class OrchestratorError(ArrieroError):
    """The orchestrator raised, or gave what is no decision. The task fails with this."""

    code = "orchestrator_error"


class Asking:
    """An orchestrator that was asked, and has answered or not yet."""

    def __init__(self, work: Coroutine[Any, Any, Decision], name: str) -> None:
        self._task = asyncio.get_running_loop().create_task(work, name=name)

    async def answer(self, seconds: float | None = None) -> Decision | None:
        """The decision; None when it takes longer. Whoever waits and is cancelled has it ended.

        Errors: :class:`OrchestratorError`, and those of the store.
        """
        try:
            await asyncio.wait({self._task}, timeout=seconds)
        except BaseException:
            self.end()
            raise
        if not self._task.done():
            return None
        if self._task.cancelled():
            raise OrchestratorError("the orchestrator was cancelled")
        return self._task.result()

    def end(self) -> None:
        """Nobody wants the answer."""
        self._task.cancel()
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def ended(self) -> None:
        """Wait until it has ended, unless it does not heed that."""
        await asyncio.wait({self._task}, timeout=PATIENCE)


class Decider:
    """Asks the orchestrator, with the session's state and the task's own notes put together as one dict.

    What the simplest one decides is known without asking it, and is decided for almost every task.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._orchestrator = kernel.orchestrator

    def known(self, task: TaskRecord, verdict: Verdict | None) -> Decision | None:
        """What need not be asked."""
        asked = self._orchestrator
        if type(asked) is not SimpleOrchestrator:
            return None
        if verdict is None:
            return Decision([Order(task.service)])
        return Decision(verdict=verdict) if asked.final_message_type is None else None

    def ask(self, task: TaskRecord, verdict: Verdict | None) -> Asking:
        """Ask for the first orders of a new task, or for what follows when an item has ended with this verdict."""
        return Asking(self._decide(copy.copy(task), verdict), f"the orchestrator decides on {task.id}")

    async def is_outdated(self, task: TaskRecord, decision: Decision) -> bool:
        """Whether the session's state has changed since, so that it is to be asked again."""
        return decision.state is not None and (await self._session_state(task))[1] != decision.version

    def keep(self, change: Change, task: TaskRecord, decision: Decision) -> None:
        """Store the task's keys with the task and the others with the session."""
        if decision.notes is not None:
            task.notes = decision.notes
        if decision.state is not None:
            change.put(names.STATES, task.session_id, decision.state, expect=decision.version)

    async def _decide(self, task: TaskRecord, verdict: Verdict | None) -> Decision:
        await self._kernel.values.fill(task, INPUT)
        kept, version = await self._session_state(task)
        try:
            decision, state = await self._answer(task, {**kept, **task.notes}, verdict)
        except ArrieroError:
            raise
        except (Exception, SystemExit) as error:  # a user's code: whatever it raises is the task's failure
            raise OrchestratorError(f"the orchestrator raised {type(error).__name__}: {error}") from error
        if self._orchestrator.uses_state:
            own = {task.id, get_result_key(task.id)}
            decision.notes = {key: value for key, value in state.items() if key in own}
            shared = {key: value for key, value in state.items() if key not in own}
            decision.state, decision.version = (shared, version) if shared != kept else (None, 0)
        return decision

    async def _answer(
        self, task: TaskRecord, state: dict[str, Any], verdict: Verdict | None
    ) -> tuple[Decision, dict[str, Any]]:
        result = None if verdict is None else _result(task, verdict)
        if result is not None:
            state = await self._orchestrator.add_result_to_state(result, state)
            if not isinstance(state, dict):
                raise OrchestratorError(f"add_result_to_state gives a dict, not {type(state).__name__}")
        answer: Any = await self._orchestrator.get_next_messages(definition(task), state)
        if not (isinstance(answer, tuple) and len(answer) == PAIR and isinstance(answer[1], dict)):
            raise OrchestratorError(f"get_next_messages gives messages and a dict, not {type(answer).__name__}")
        messages, state = answer
        decision = _take_apart(messages)
        decision.verdict = _verdict(state.get(get_result_key(task.id)), result, verdict)
        return decision, _kept(state)

    async def _session_state(self, task: TaskRecord) -> tuple[dict[str, Any], int]:
        if not self._orchestrator.uses_state:
            return {}, 0
        loaded = await self._kernel.load(records.STATE, names.STATES, task.session_id)
        return (loaded.record, loaded.version) if loaded else ({}, 0)


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


def _kept(state: dict[str, Any]) -> dict[str, Any]:
    """What can be stored of it."""
    plain = {key: _plain(value) for key, value in state.items()}
    try:
        records.encode(plain)
    except (TypeError, ValueError) as error:
        raise OrchestratorError(f"the orchestrator gave a state that is not JSON: {error}") from error
    return plain


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
