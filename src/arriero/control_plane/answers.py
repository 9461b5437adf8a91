"""From stored tasks to their documented JSON."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from arriero.core.core import Core
from arriero.core.listing import SessionView
from arriero.core.records import NULL, TaskRecord
from arriero.types.errors import ErrorInfo
from arriero.types.tasks import SessionDefinition, TaskDefinition, TaskResult, TaskStatus

_encode = msgspec.json.Encoder().encode


#: The header that says how a list goes on: what to ask for as ``after``, percent-encoded as in a query.
NEXT = "X-Next-After"


class JSONBytes(Response):
    """A JSON answer of bytes that are made already."""

    media_type = "application/json"


class ResultView(msgspec.Struct, kw_only=True):
    """The documented ``TaskResult``."""

    task_id: str
    history: list[Any]
    result: str
    data: dict[str, Any]
    value: msgspec.Raw
    status: TaskStatus
    error: ErrorInfo | None
    attempts: int


def answer(value: Any, status: int = 200) -> Response:
    """Any value of ours as JSON."""
    return JSONBytes(_encode(value), status)


def page(value: Any, after: str | None) -> Response:
    """A list that goes on behind ``after``, or ends here."""
    headers = {} if after is None else {NEXT: quote(after)}
    return JSONBytes(_encode(value), 200, headers)


def result_view(task: TaskRecord) -> ResultView:
    """The result of a task that has ended; ``result`` of a failed one is its error's message."""
    text = task.error.message if task.error is not None else _text(task.value)
    return ResultView(
        task_id=task.id,
        history=[],
        result=text,
        data={},
        value=task.value,
        status=task.status,
        error=task.error,
        attempts=task.attempts,
    )


def _text(value: msgspec.Raw) -> str:
    raw = bytes(value)
    if raw == bytes(NULL):
        return "null"
    decoded = msgspec.json.decode(raw) if raw[:1] == b'"' else None
    return decoded if isinstance(decoded, str) else raw.decode()


def result_of(task: TaskRecord) -> TaskResult:
    """The same as the documented class."""
    return TaskResult.model_validate_json(_encode(result_view(task)))


def session_of(view: SessionView) -> SessionDefinition:
    """The documented class of a session."""
    return SessionDefinition(session_id=view.session_id, task_ids=view.task_ids, state=view.state)


def definition_of(task: TaskRecord) -> TaskDefinition:
    """:func:`task_view` as the documented class."""
    return TaskDefinition.model_validate_json(_encode(task_view(task)))


async def task_shown(core: Core, session_id: str | None, task_id: str) -> dict[str, Any]:
    """The documented task as it is now; one of any session when that is None."""
    return task_view(await core.show(session_id, task_id))


def task_view(task: TaskRecord) -> dict[str, Any]:
    """The documented ``TaskDefinition``, with what has become of the task."""
    return {
        "input": task.input,
        "task_id": task.id,
        "session_id": task.session_id,
        "service_id": task.service,
        "agent_id": task.service,
        "status": task.status,
        "attempts": task.attempts,
        "error": task.error,
        "deadline": task.deadline,
        "parent": task.parent,
        "headers": task.headers,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "waits_for": task.waits_for,
        "forked_from": task.forked_from,
        "replay_of": task.replay_of,
    }
