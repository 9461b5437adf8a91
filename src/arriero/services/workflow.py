"""The documented ``WorkflowService``, and its sibling for a plain function."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from arriero.message_queues.base import MessageQueue, PublishCallback
from arriero.services.base import BaseService, ServiceOptions
from arriero.services.config import WorkflowServiceConfig
from arriero.types.errors import ConfigurationError, InvalidInput
from arriero.types.handling import Handler
from arriero.types.tasks import WorkflowState

if TYPE_CHECKING:
    from workflows import Context, Workflow

__all__ = ["FunctionService", "WorkflowService", "WorkflowServiceConfig", "WorkflowState"]


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

    def dump_workflow_state(
        self,
        context: Context[Any],
        run_kwargs: dict[str, Any] | None = None,
        *,
        task_id: str,
        session_id: str | None = None,
    ) -> WorkflowState:
        """The context of a run (``handler.ctx``), signed with ``config.hash_secret``, as it may be kept elsewhere.

        Arriero keeps what a session needs by itself; this is for contexts that a program keeps. Errors: ``NotJSON``.
        """
        from arriero.runtime.runner import codec_of

        state = codec_of(self.workflow).dump(context)
        return WorkflowState(
            hash=signature(state, self.config.hash_secret),
            state=state,
            run_kwargs=run_kwargs or {},
            session_id=session_id,
            task_id=task_id,
        )

    def load_workflow_state(self, state: WorkflowState) -> Context[Any] | None:
        """The context that was dumped, for ``workflow.run(ctx=...)``; None where there is none.

        Its signature is checked before anything of it is read, and no class comes back that the workflow does not
        declare. Errors: ``InvalidInput``.
        """
        from arriero.runtime.runner import codec_of

        if not state.state:
            return None
        right = signature(state.state, self.config.hash_secret)
        if not hmac.compare_digest(str(state.hash).encode(), right.encode()):
            raise InvalidInput(
                "the hash of the workflow's state does not match: it was changed, or signed with another secret; set "
                "LLAMA_DEPLOY_WF_SERVICE_HASH_SECRET to the one that signed it"
            )
        return codec_of(self.workflow).load(self.workflow, state.state)


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


def signature(state: dict[str, Any], secret: SecretStr) -> str:
    """What the JSON of a state is signed with."""
    text = json.dumps(state, sort_keys=True, separators=(",", ":"))
    return hmac.new(secret.get_secret_value().encode(), text.encode(), hashlib.sha256).hexdigest()


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
