"""The documented ``WorkflowService``, and its sibling for a plain function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from arriero.message_queues.base import MessageQueue, PublishCallback
from arriero.services.base import BaseService, ServiceOptions
from arriero.services.config import WorkflowServiceConfig
from arriero.types.errors import ConfigurationError
from arriero.types.handling import Handler

if TYPE_CHECKING:
    from workflows import Workflow


class WorkflowService(BaseService):
    """A LlamaIndex workflow as a service.

    Settings come as a ``config`` or one by one, by the names of :class:`WorkflowServiceConfig`.
    """

    service_type = "workflow_service"

    def __init__(
        self,
        workflow: Workflow,
        message_queue: MessageQueue,
        config: WorkflowServiceConfig | None = None,
        publish_callback: PublishCallback | None = None,
        **settings: Any,
    ) -> None:
        self.workflow = workflow
        self.config = _config(config, settings)
        super().__init__(self.config.service_name, message_queue, _options(self.config), publish_callback)

    def handler(self) -> Handler:
        from arriero.services.handlers import WorkflowHandler, WorkflowOptions

        config = self.config
        return WorkflowHandler(self.workflow, WorkflowOptions(config.durability, config.sends, config.linger))


class FunctionService(BaseService):
    """A function as a service; the task's input is a JSON object with its arguments. See :class:`WorkflowService`."""

    service_type = "function_service"

    def __init__(
        self,
        function: Callable[..., Any],
        message_queue: MessageQueue,
        config: WorkflowServiceConfig | None = None,
        publish_callback: PublishCallback | None = None,
        **settings: Any,
    ) -> None:
        if not callable(function):
            raise ConfigurationError(f"a function service needs something to call, not {type(function).__name__}")
        self.function = function
        self.config = _config(config, settings)
        super().__init__(self.config.service_name, message_queue, _options(self.config), publish_callback)

    def handler(self) -> Handler:
        from arriero.services.handlers import FunctionHandler

        return FunctionHandler(self.function)


def _config(config: WorkflowServiceConfig | None, settings: dict[str, Any]) -> WorkflowServiceConfig:
    if config is not None and settings:
        raise ConfigurationError(f"give config or single settings, not both: {', '.join(sorted(settings))}")
    return config if config is not None else WorkflowServiceConfig(**settings)


def _options(config: WorkflowServiceConfig) -> ServiceOptions:
    return ServiceOptions(
        description=config.description,
        host=config.host,
        port=config.port,
        internal_host=config.internal_host,
        internal_port=config.internal_port,
        running=config.running,
        step_interval=config.step_interval,
        max_concurrent_tasks=config.max_concurrent_tasks,
        raise_exceptions=config.raise_exceptions,
        session_concurrency=config.session_concurrency,
        max_queue=config.max_queue,
    )
