"""The nouns, the errors, the settings and the shapes on the wire. It imports nothing of ours.

The documented names are loaded from their modules when they are first used, so that an error does not load the models.
"""

from typing import TYPE_CHECKING

__all__ = [
    "CONTROL_PLANE_NAME",
    "ActionTypes",
    "ChatMessage",
    "EventDefinition",
    "HumanResponse",
    "MessageRole",
    "NewTask",
    "PydanticValidatedUrl",
    "QueueMessage",
    "QueueMessageStats",
    "ServiceDefinition",
    "SessionDefinition",
    "TaskDefinition",
    "TaskResult",
    "TaskStatus",
    "TaskStream",
    "ToolCall",
    "ToolCallBundle",
    "ToolCallResult",
    "WorkflowState",
    "generate_id",
]

if TYPE_CHECKING:
    from arriero.types.chat import ChatMessage, MessageRole
    from arriero.types.ids import generate_id
    from arriero.types.messages import CONTROL_PLANE_NAME, ActionTypes, QueueMessage, QueueMessageStats
    from arriero.types.services import HumanResponse, ServiceDefinition, ToolCall, ToolCallBundle, ToolCallResult
    from arriero.types.settings import PydanticValidatedUrl
    from arriero.types.tasks import (
        EventDefinition,
        NewTask,
        SessionDefinition,
        TaskDefinition,
        TaskResult,
        TaskStatus,
        TaskStream,
        WorkflowState,
    )
else:
    _MODULES = {
        "chat": ["ChatMessage", "MessageRole"],
        "ids": ["generate_id"],
        "messages": ["CONTROL_PLANE_NAME", "ActionTypes", "QueueMessage", "QueueMessageStats"],
        "services": ["HumanResponse", "ServiceDefinition", "ToolCall", "ToolCallBundle", "ToolCallResult"],
        "settings": ["PydanticValidatedUrl"],
        "tasks": [
            "EventDefinition",
            "NewTask",
            "SessionDefinition",
            "TaskDefinition",
            "TaskResult",
            "TaskStatus",
            "TaskStream",
            "WorkflowState",
        ],
    }
    _MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
