"""Services, and the calls that tools and people answer."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from arriero.types.chat import ChatMessage
from arriero.types.ids import generate_id
from arriero.types.names import NAME
from arriero.types.numbers import NUMBER, Whole

#: The most that ``max_queue`` may be.
LARGEST_QUEUE = 10**9


class ServiceDefinition(BaseModel):
    """A named thing that can do work. At most ``max_queue`` items of it are queued; None is the control plane's own."""

    service_name: str = Field(json_schema_extra={**NAME})
    description: str
    prompt: list[ChatMessage] = Field(default_factory=list)
    host: str | None = None
    port: Whole | None = None
    max_queue: Annotated[int, Field(ge=1, le=LARGEST_QUEUE), NUMBER] | None = None


class ToolCallBundle(BaseModel):
    """The name of a tool and what to call it with."""

    tool_name: str
    tool_args: list[Any]
    tool_kwargs: dict[str, Any]


class ToolCall(BaseModel):
    """A call of a tool; the answer goes to ``source_id``."""

    id_: str = Field(default_factory=generate_id)
    tool_call_bundle: ToolCallBundle
    source_id: str


class ToolCallResult(BaseModel):
    """The answer to a :class:`ToolCall` of the same ``id_``."""

    id_: str
    tool_message: ChatMessage
    result: str


class HumanResponse(BaseModel):
    """What a person answered."""

    result: str
