"""``deploy_workflow`` and ``deploy_function``: one service in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from arriero.core.local_link import LocalLink
from arriero.deploy.interrupt import ends_at_interrupt
from arriero.deploy.near import find
from arriero.deploy.together import together
from arriero.message_queues import config_from_mapping, queue_from_config
from arriero.message_queues.base import MessageQueue
from arriero.services import BaseService, FunctionService, WorkflowService, WorkflowServiceConfig
from arriero.services.registration import ControlPlaneCalls
from arriero.services.threads import THREADS
from arriero.types.errors import ConfigurationError
from arriero.types.settings import ControlPlaneConfig

if TYPE_CHECKING:
    from workflows import Workflow

Make = Callable[[MessageQueue], BaseService]


async def deploy_workflow(
    workflow: Workflow,
    workflow_config: WorkflowServiceConfig | None = None,
    control_plane_config: ControlPlaneConfig | None = None,
) -> None:
    """Serve a workflow until cancelled; waits for the control plane when that is not there yet."""
    _require_workflow(workflow)
    settings = workflow_config or WorkflowServiceConfig()
    await deploy_service(lambda queue: WorkflowService(workflow, queue, settings), control_plane_config)


def _require_workflow(workflow: object) -> None:
    """Refuse what could never run before anybody hears of it."""
    from workflows import Workflow

    if isinstance(workflow, type) and issubclass(workflow, Workflow):
        raise ConfigurationError(f"{workflow.__name__} is a class; deploy an instance of it: {workflow.__name__}()")
    if not isinstance(workflow, Workflow):
        raise ConfigurationError(f"a workflow is deployed, not {type(workflow).__name__}; functions by deploy_function")


async def deploy_function(
    function: Callable[..., Any],
    service_name: str | None = None,
    control_plane_config: ControlPlaneConfig | None = None,
    config: WorkflowServiceConfig | None = None,
) -> None:
    """Serve a function until cancelled, under ``service_name``, its own name by default."""
    settings = config or WorkflowServiceConfig(service_name=service_name or function.__name__)
    await deploy_service(lambda queue: FunctionService(function, queue, settings), control_plane_config)


async def deploy_service(make: Make, control_plane_config: ControlPlaneConfig | None = None) -> None:
    """Make a service on the control plane's own message queue and run it until cancelled, then drain.

    Ctrl-C in a program that runs by ``asyncio.run`` drains, and then this returns.
    """
    url = (control_plane_config or ControlPlaneConfig()).url
    with ends_at_interrupt():
        await _deploy(make, url)


async def _deploy(make: Make, url: str) -> None:
    shown = await ControlPlaneCalls(url).queue_config()
    near = find(url)
    if near is not None:
        await near.server.started.wait()
        service = make(near.queue)
        service.attach(LocalLink(near.server.core), url)
        await _run(service)
        return
    async with queue_from_config(config_from_mapping(shown)) as queue:
        service = make(queue)
        await _run(service, url)


async def _run(service: BaseService, url: str | None = None) -> None:
    asyncio.get_running_loop().set_default_executor(THREADS)  # the engine runs blocking steps in it
    async with together() as parts:
        parts.create_task(service.launch_server(), name=f"service {service.service_name}")
        if url is not None:
            await service.register_to_control_plane(url)
