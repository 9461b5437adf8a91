"""The documented contract of an orchestrator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from arriero.types.messages import QueueMessage
from arriero.types.tasks import TaskDefinition, TaskResult


class BaseOrchestrator(ABC):
    """Decides what comes next for a task.

    Both methods are called again when another decision got in between, or the control plane was started again, so they
    must be pure: everything they know is in their arguments, and all that they want remembered is in the state they
    return. They may take their time, but not block the event loop. ``state`` is the session's. The keys ``<task id>``
    and ``result_<task id>`` in it belong to the task and leave the session's state when it ends; the second, where it
    is set, is the task's result.
    """

    #: How often an item is tried again after an error that may pass.
    max_retries: int = 3
    #: Whether the session's state is needed; the built-in ones that do without it say so, which saves its loading.
    uses_state: ClassVar[bool] = True

    @abstractmethod
    async def get_next_messages(
        self, task_def: TaskDefinition, state: dict[str, Any]
    ) -> tuple[list[QueueMessage], dict[str, Any]]:
        """The next messages and the new state.

        A ``NEW_TASK`` message orders work of the service named in its ``type``; any other is published when the task
        ends. No ``NEW_TASK`` while nothing is being worked on ends the task.
        """

    @abstractmethod
    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> dict[str, Any]:
        """The state with the result of one work item, successful or not (see ``result.status``), taken in."""


def get_result_key(task_id: str) -> str:
    """Where a task's result stands in the state."""
    return f"result_{task_id}"


def get_stream_key(task_id: str) -> str:
    """Where a task's stream stood in the state; kept for programs that name it."""
    return f"stream_{task_id}"
