"""The documented place of the nouns, under the name that they have had since they became a package."""

from arriero.types.chat import ChatMessage, MessageRole
from arriero.types.ids import generate_id
from arriero.types.messages import CONTROL_PLANE_NAME, ActionTypes
from arriero.types.services import HumanResponse, ServiceDefinition, ToolCall, ToolCallBundle, ToolCallResult
from arriero.types.settings import PydanticValidatedUrl
from arriero.types.tasks import EventDefinition, NewTask, SessionDefinition, TaskDefinition, TaskResult, TaskStream

__all__ = [
    "CONTROL_PLANE_NAME",
    "ActionTypes",
    "ChatMessage",
    "EventDefinition",
    "HumanResponse",
    "MessageRole",
    "NewTask",
    "PydanticValidatedUrl",
    "ServiceDefinition",
    "SessionDefinition",
    "TaskDefinition",
    "TaskResult",
    "TaskStream",
    "ToolCall",
    "ToolCallBundle",
    "ToolCallResult",
    "generate_id",
]
