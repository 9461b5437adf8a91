"""Run LlamaIndex workflows and agents as services.

The names below are loaded from their rooms when they are first used, so that ``import arriero`` costs nothing.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "ActionTypes",
    "ArrieroError",
    "AsyncLlamaDeployClient",
    "AsyncSessionClient",
    "BaseOrchestrator",
    "BaseService",
    "CallableMessageConsumer",
    "Client",
    "ControlPlaneConfig",
    "ControlPlaneServer",
    "EventDefinition",
    "FunctionService",
    "LlamaDeployClient",
    "Nested",
    "QueueMessage",
    "ServiceDefinition",
    "SessionClient",
    "SessionDefinition",
    "SimpleMessageQueue",
    "SimpleMessageQueueConfig",
    "SimpleMessageQueueServer",
    "SimpleOrchestrator",
    "SimpleOrchestratorConfig",
    "TaskDefinition",
    "TaskEntry",
    "TaskResult",
    "TransientError",
    "Workflow",
    "WorkflowService",
    "WorkflowServiceConfig",
    "add_workflows",
    "deploy_core",
    "deploy_function",
    "deploy_workflow",
    "idempotency_key",
    "idempotency_key_sync",
    "step",
]

if TYPE_CHECKING:
    from arriero.client import (
        AsyncLlamaDeployClient,
        AsyncSessionClient,
        Client,
        LlamaDeployClient,
        SessionClient,
        TaskEntry,
    )
    from arriero.control_plane import ControlPlaneServer
    from arriero.deploy import deploy_core, deploy_function, deploy_workflow
    from arriero.message_queues import (
        CallableMessageConsumer,
        SimpleMessageQueue,
        SimpleMessageQueueConfig,
        SimpleMessageQueueServer,
    )
    from arriero.orchestrators import BaseOrchestrator, SimpleOrchestrator, SimpleOrchestratorConfig
    from arriero.runtime.keys import idempotency_key, idempotency_key_sync
    from arriero.runtime.nested import Nested, Workflow, add_workflows, step
    from arriero.services import BaseService, FunctionService, WorkflowService, WorkflowServiceConfig
    from arriero.types.errors import ArrieroError, TransientError
    from arriero.types.messages import ActionTypes, QueueMessage
    from arriero.types.services import ServiceDefinition
    from arriero.types.settings import ControlPlaneConfig
    from arriero.types.tasks import EventDefinition, SessionDefinition, TaskDefinition, TaskResult
else:
    # Out of the type checker's sight: with a module-level `__getattr__` it would take any name for an export.
    _ROOMS = {
        "arriero.client": [
            "AsyncLlamaDeployClient",
            "AsyncSessionClient",
            "Client",
            "LlamaDeployClient",
            "SessionClient",
            "TaskEntry",
        ],
        "arriero.control_plane": ["ControlPlaneServer"],
        "arriero.deploy": ["deploy_core", "deploy_function", "deploy_workflow"],
        "arriero.message_queues": [
            "CallableMessageConsumer",
            "SimpleMessageQueue",
            "SimpleMessageQueueConfig",
            "SimpleMessageQueueServer",
        ],
        "arriero.orchestrators": ["BaseOrchestrator", "SimpleOrchestrator", "SimpleOrchestratorConfig"],
        "arriero.runtime.keys": ["idempotency_key", "idempotency_key_sync"],
        "arriero.runtime.nested": ["Nested", "Workflow", "add_workflows", "step"],
        "arriero.services": ["BaseService", "FunctionService", "WorkflowService", "WorkflowServiceConfig"],
        "arriero.types.errors": ["ArrieroError", "TransientError"],
        "arriero.types.messages": ["ActionTypes", "QueueMessage"],
        "arriero.types.services": ["ServiceDefinition"],
        "arriero.types.settings": ["ControlPlaneConfig"],
        "arriero.types.tasks": ["EventDefinition", "SessionDefinition", "TaskDefinition", "TaskResult"],
    }
    _ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

    def __getattr__(name):
        if name not in _ROOM_OF:
            raise AttributeError(f"module 'arriero' has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_ROOM_OF[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
