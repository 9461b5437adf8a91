"""``deploy_core``: control plane and message queue in one call."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, ExitStack

from pydantic import BaseModel

from arriero.client import nearby
from arriero.control_plane import ControlPlaneServer
from arriero.deploy.interrupt import ends_at_interrupt
from arriero.deploy.near import announced
from arriero.deploy.together import together
from arriero.message_queues import SimpleMessageQueueConfig, SimpleMessageQueueServer, queue_from_config
from arriero.message_queues.base import MessageQueue
from arriero.orchestrators import SimpleOrchestrator, SimpleOrchestratorConfig
from arriero.types.access import core_tokens
from arriero.types.credentials import token_file
from arriero.types.errors import ConfigurationError
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tokens import Tokens

logger = logging.getLogger("arriero.deploy")


async def deploy_core(
    control_plane_config: ControlPlaneConfig | None = None,
    message_queue_config: BaseModel | None = None,
    orchestrator_config: SimpleOrchestratorConfig | None = None,
    disable_message_queue: bool = False,
    disable_control_plane: bool = False,
) -> None:
    """Run a control plane and, for the simple queue, its server, until cancelled; then drain.

    A port or database that is taken, or any other fault, is raised at once. Ctrl-C in a program that runs by
    ``asyncio.run`` drains, and then this returns.
    """
    if disable_message_queue and disable_control_plane:
        raise ConfigurationError("with both parts disabled there is nothing to deploy")
    config = control_plane_config or ControlPlaneConfig()
    queue_config = message_queue_config or SimpleMessageQueueConfig()
    tokens = core_tokens(token_file(config.state_store_uri), required=config.require_token)
    queue: MessageQueue | SimpleMessageQueueServer
    if not disable_message_queue and isinstance(queue_config, SimpleMessageQueueConfig):
        queue = SimpleMessageQueueServer(queue_config, tokens=tokens)
    else:
        queue = queue_from_config(queue_config)
    server = None if disable_control_plane else _control_plane(queue, config, orchestrator_config, tokens)
    with ends_at_interrupt():
        async with AsyncExitStack() as stack, together() as parts:
            if isinstance(queue, SimpleMessageQueueServer):
                await _started(queue, parts.create_task(queue.launch_server(), name="message queue"))
                logger.info("message queue ready at %s", queue.as_config().base_url)
            else:
                await stack.enter_async_context(queue)
            if server is not None:
                parts.create_task(_run(server), name="control plane")


def _control_plane(
    queue: MessageQueue | SimpleMessageQueueServer,
    config: ControlPlaneConfig,
    orchestrator_config: SimpleOrchestratorConfig | None,
    tokens: Tokens,
) -> ControlPlaneServer:
    """Made before anything is started, so that a wrong setting starts nothing."""
    settings = orchestrator_config or SimpleOrchestratorConfig()
    return ControlPlaneServer(queue, SimpleOrchestrator(**settings.model_dump()), config=config, tokens=tokens)


async def _started(server: SimpleMessageQueueServer, task: asyncio.Task[None]) -> None:
    started = asyncio.ensure_future(server.started())
    try:
        await asyncio.wait({started, task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
    finally:
        started.cancel()


async def _run(server: ControlPlaneServer) -> None:
    consume = await server.register_to_message_queue()
    with announced(server), ExitStack() as around:
        async with together() as parts:
            parts.create_task(server.launch_server(), name="control plane server")
            await server.started.wait()
            around.enter_context(nearby.announced(server.url, server.front()))
            parts.create_task(consume(), name="control plane messages")
