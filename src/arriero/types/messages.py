"""What a message queue carries."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from arriero.types.ids import generate_id

#: The name under which the control plane takes messages.
CONTROL_PLANE_NAME = "control_plane"


class ActionTypes(StrEnum):
    """What a message asks for."""

    NEW_TASK = "new_task"
    COMPLETED_TASK = "completed_task"
    REQUEST_FOR_HELP = "request_for_help"
    NEW_TOOL_CALL = "new_tool_call"
    COMPLETED_TOOL_CALL = "completed_tool_call"
    TASK_STREAM = "task_stream"
    SEND_EVENT = "send_event"


class QueueMessageStats(BaseModel):
    """When a message was published and processed, as text in UTC."""

    publish_time: str | None = None
    process_start_time: str | None = None
    process_end_time: str | None = None

    @staticmethod
    def timestamp_str(format: str = "%Y-%m-%d %H:%M:%S") -> str:  # the documented parameter name
        """The time now, in UTC."""
        return datetime.now(UTC).strftime(format)


class QueueMessage(BaseModel):
    """One message: ``type`` is the routing name (a service, ``control_plane``, a publisher's id)."""

    model_config = ConfigDict(extra="ignore")

    id_: str = Field(default_factory=generate_id)
    publisher_id: str = "default"
    data: dict[str, Any] = Field(default_factory=dict)
    action: ActionTypes | None = None
    stats: QueueMessageStats = Field(default_factory=QueueMessageStats)
    type: str = "default"
    headers: dict[str, str] = Field(default_factory=dict)
