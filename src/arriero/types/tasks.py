"""Tasks, sessions and results, with the JSON that clients know."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from arriero.types.chat import ChatMessage
from arriero.types.ids import generate_id
from arriero.types.numbers import Whole


class TaskStatus(StrEnum):
    """Where a task or work item stands. The last five are ends, and an end never changes."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    DEAD = "dead"

    @property
    def is_end(self) -> bool:
        return self in _ENDS


_ENDS = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMED_OUT, TaskStatus.DEAD}
)


class TaskDefinition(BaseModel):
    """What a client asks for.

    ``input`` is text; for a workflow it is a JSON object with the arguments of its run. The service may be given as
    ``service_id`` or ``agent_id``. ``deadline`` is in seconds from acceptance. Times in answers are Unix seconds.
    """

    model_config = ConfigDict(extra="ignore")

    input: str
    task_id: str = Field(default_factory=generate_id)
    session_id: str | None = None
    service_id: str | None = None
    deadline: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    headers: dict[str, str] = Field(default_factory=dict)

    status: TaskStatus | None = None
    attempts: Whole = 0
    error: dict[str, Any] | None = None
    parent: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    #: What keeps an open task from going on: services, events (and those that came and that nothing took:
    #: ``{"unmatched": <their types>}``), an earlier task of its session, a time, an orchestrator that has not decided,
    #: or (of a single task, not in lists) a service of which no worker is connected: ``{"worker_of": <its name>}``.
    waits_for: list[dict[str, Any]] = Field(default_factory=list)
    #: The task from behind whose step it began, and the one whose input it was given again.
    forked_from: str | None = None
    replay_of: str | None = None

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form
    @property
    def agent_id(self) -> str | None:
        """The service, under its older name."""
        return self.service_id

    @model_validator(mode="before")
    @classmethod
    def _accept_both_names(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("agent_id") is None:
            return data
        old, new = data["agent_id"], data.get("service_id")
        if new is not None and new != old:
            raise ValueError(f"agent_id {old!r} and service_id {new!r} name different services; give one of them")
        return {**data, "service_id": old}


class SessionDefinition(BaseModel):
    """An ordered conversation of tasks."""

    session_id: str = Field(default_factory=generate_id)
    task_ids: list[str] = Field(default_factory=list)
    state: dict[str, Any] = Field(default_factory=dict)

    @property
    def current_task_id(self) -> str | None:
        return self.task_ids[-1] if self.task_ids else None


class NewTask(BaseModel):
    """A task with the session's state beside it, as older producers send it."""

    task: TaskDefinition
    state: dict[str, Any] = Field(default_factory=dict)


class TaskResult(BaseModel):
    """What came of a task. ``result`` is text (a string as it is, all else as JSON); ``value`` is the JSON value.

    Of a task that did not complete, ``value`` is None, ``error`` says why, and ``result`` is the error's message.
    """

    task_id: str
    history: list[ChatMessage] = Field(default_factory=list)
    result: str = ""
    data: dict[str, Any] = Field(default_factory=dict)

    value: Any = None
    status: TaskStatus = TaskStatus.COMPLETED
    error: dict[str, Any] | None = None
    attempts: Whole = 0

    @model_validator(mode="after")
    def _text_from_value(self) -> Self:
        if not self.result and self.value is not None:
            self.result = result_text(self.value)
        return self


class TaskStream(BaseModel):
    """One event that a task streamed; ``index`` counts the task's own events from 0."""

    task_id: str
    session_id: str | None
    data: dict[str, Any]
    index: Whole


class WorkflowState(BaseModel):
    """The context of a workflow's run as a JSON object, with the ``hash`` that its service signed it with."""

    hash: str | int | None = None
    state: dict[str, Any] = Field(default_factory=dict)
    run_kwargs: dict[str, Any] = Field(default_factory=dict)
    session_id: str | None = None
    task_id: str


class EventDefinition(BaseModel):
    """An event sent to a running task from outside."""

    model_config = ConfigDict(extra="ignore")

    service_id: str
    event_obj_str: str

    @model_validator(mode="before")
    @classmethod
    def _accept_both_names(cls, data: Any) -> Any:
        if isinstance(data, dict) and "service_id" not in data and "agent_id" in data:
            return {**data, "service_id": data["agent_id"]}
        return data


def result_text(value: Any) -> str:
    """The documented text of a result: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
