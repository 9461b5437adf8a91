"""One task, one service."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from arriero.orchestrators.base import BaseOrchestrator, get_result_key
from arriero.types.errors import InvalidInput
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import TaskDefinition, TaskResult


class SimpleOrchestratorConfig(BaseSettings):
    """Settings of :class:`SimpleOrchestrator`; environment prefix ``SIMPLE_ORCHESTRATOR_``."""

    model_config = SettingsConfigDict(env_prefix="SIMPLE_ORCHESTRATOR_", extra="forbid")

    #: How often a task is tried again after an error that may pass.
    max_retries: int = Field(default=3, ge=0)
    #: The topic that gets a ``COMPLETED_TASK`` message at the end of each task; None for none.
    final_message_type: str | None = None


class SimpleOrchestrator(BaseOrchestrator):
    """Sends a task to the service that it names and takes that service's result as the task's."""

    uses_state: ClassVar[bool] = False

    def __init__(self, max_retries: int = 3, final_message_type: str | None = "human") -> None:
        self.max_retries = max_retries
        self.final_message_type = final_message_type

    async def get_next_messages(
        self, task_def: TaskDefinition, state: dict[str, Any]
    ) -> tuple[list[QueueMessage], dict[str, Any]]:
        if task_def.service_id is None:
            raise InvalidInput(f"task {task_def.task_id!r} names no service; set service_id")
        result = state.get(get_result_key(task_def.task_id))
        if result is None:
            order = QueueMessage(
                type=task_def.service_id, action=ActionTypes.NEW_TASK, data={"task_id": task_def.task_id}
            )
            return [order], state
        if self.final_message_type is None:
            return [], state
        data = TaskResult.model_validate(result).model_dump(mode="json")
        return [QueueMessage(type=self.final_message_type, action=ActionTypes.COMPLETED_TASK, data=data)], state

    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, get_result_key(result.task_id): result}
