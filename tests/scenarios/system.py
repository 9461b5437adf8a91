"""Parts of the system in the event loop of the test, on free ports, each with a database of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

from arriero import (
    BaseOrchestrator,
    BaseService,
    ControlPlaneConfig,
    ControlPlaneServer,
    SimpleMessageQueue,
    SimpleMessageQueueConfig,
    SimpleOrchestrator,
    deploy_core,
)
from tests.harness import answers, free_port


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, Any], started: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """Run ``work`` meanwhile, entered when ``started`` says so; a fault of it is raised. Then it is cancelled."""
    task = asyncio.ensure_future(work)
    starting = asyncio.ensure_future(started)
    try:
        await asyncio.wait({task, starting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        await starting
        yield task
    finally:
        starting.cancel()
        task.cancel()
        ended = await asyncio.gather(task, starting, return_exceptions=True)
        if isinstance(ended[0], Exception):
            raise ended[0]


@asynccontextmanager
async def control_plane(
    tmp_path: Path,
    *,
    queue: Any = None,
    orchestrator: BaseOrchestrator | None = None,
    **settings: Any,
) -> AsyncIterator[ControlPlaneServer]:
    """A ``ControlPlaneServer`` that serves, and takes the messages of its topic."""
    config = ControlPlaneConfig(port=0, state_store_uri=f"sqlite:///{tmp_path}/control_plane.db", **settings)
    orchestrator = orchestrator or SimpleOrchestrator(max_retries=2, final_message_type=None)
    server = ControlPlaneServer(queue or SimpleMessageQueue(), orchestrator, config=config)
    consume = await server.register_to_message_queue()
    async with beside(server.launch_server(), server.started.wait()), beside(consume(), at_once()):
        yield server


async def at_once() -> None:
    """Nothing to wait for."""


@asynccontextmanager
async def at_work(service: BaseService, url: str) -> AsyncIterator[None]:
    """A service at work for the control plane of that address."""
    await service.register_to_control_plane(url)
    async with beside(service.processing_loop(), service.ready.wait()):
        yield


@asynccontextmanager
async def served(service: BaseService, url: str) -> AsyncIterator[str]:
    """The same with its own routes, at the address that is given."""
    await service.register_to_control_plane(url)
    async with beside(service.launch_server(), service.ready.wait()):
        yield f"http://{service.options.host}:{service.options.port}"


@asynccontextmanager
async def core_here(tmp_path: Path, **settings: Any) -> AsyncIterator[ControlPlaneConfig]:
    """``deploy_core`` in this loop."""
    config = ControlPlaneConfig(port=free_port(), state_store_uri=f"sqlite:///{tmp_path}/core.db", **settings)
    deployed = deploy_core(config, SimpleMessageQueueConfig(port=free_port()))
    async with beside(deployed, answers(config.url)):
        yield config


def task(service: str, input: str = "{}", **more: Any) -> dict[str, Any]:
    """The body that submits a task."""
    return {"input": input, "service_id": service, **more}


class Http:
    """Plain requests to one address, with what comes back as it came."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = aiohttp.ClientSession()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._session.close()

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        return await self.ask("POST", path, json=body, **options)

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """The status, and the body read as JSON."""
        status, _, body = await self.whole(method, path, **options)
        return status, body

    async def whole(self, method: str, path: str, **options: Any) -> tuple[int, Mapping[str, str], Any]:
        """The same with the headers between."""
        async with self._session.request(method, self.url + path, **options) as response:
            assert response.content_type == "application/json", await response.text()
            return response.status, response.headers, json.loads(await response.read())

    def stream(self, path: str, **options: Any) -> Any:
        """A response to be read as it comes, as a context manager."""
        return self._session.get(self.url + path, **options)
