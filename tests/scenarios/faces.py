"""The four faces of the client as one, so that each test holds for all of them.

Synchronous methods are called as they are, in the event loop of the test: that works, because the parts that they ask
run in processes of their own.
"""

import inspect
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Self

from arriero import AsyncLlamaDeployClient, Client, LlamaDeployClient
from tests.harness import PATIENCE, Core

NAMES = ["async client", "sync client", "async sdk", "sync sdk"]


class Face:
    """One way to ask the control plane. What it gives is what the method of that face gives, awaited if need be."""

    def __init__(self, name: str, core: Core) -> None:
        self.name = name
        self.is_sdk = name.endswith("sdk")
        self.client: Any = _made(name, core)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self.name.startswith("async"):
            await self._stack.enter_async_context(self.client)
        else:
            self._stack.enter_context(self.client)
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._stack.aclose()

    # Sessions

    async def create(self) -> Any:
        return await result(self.client.core.sessions.create() if self.is_sdk else self.client.create_session())

    async def get(self, id: str) -> Any:
        return await result(self.client.core.sessions.get(id) if self.is_sdk else self.client.get_session(id))

    async def get_or_create(self, id: str) -> Any:
        sdk = self.is_sdk
        return await result(
            self.client.core.sessions.get_or_create(id) if sdk else self.client.get_or_create_session(id)
        )

    async def session_ids(self) -> list[str]:
        found = self.client.core.sessions.list() if self.is_sdk else self.client.list_sessions()
        return [session.session_id for session in await result(found)]

    async def definition(self, id: str) -> Any:
        """Only the clients of the older kind have it."""
        return await result(self.client.get_session_definition(id))

    async def delete(self, id: str) -> None:
        await result(self.client.core.sessions.delete(id) if self.is_sdk else self.client.delete_session(id))

    # Services

    async def register(self, definition: Any) -> None:
        services = self.client.core.services if self.is_sdk else None
        await result(services.register(definition) if services else self.client.register_service(definition))

    async def deregister(self, name: str) -> None:
        services = self.client.core.services if self.is_sdk else None
        await result(services.deregister(name) if services else self.client.deregister_service(name))

    async def service(self, name: str) -> Any:
        services = self.client.core.services if self.is_sdk else None
        return await result(services.get(name) if services else self.client.get_service(name))

    async def service_names(self) -> list[str]:
        services = self.client.core.services if self.is_sdk else None
        return [s.service_name for s in await result(services.list() if services else self.client.list_services())]


def _made(name: str, core: Core) -> Any:
    if name.endswith("client"):
        kind: Any = AsyncLlamaDeployClient if name.startswith("async") else LlamaDeployClient
        return kind(core.config, timeout=PATIENCE)
    client = Client(control_plane_url=core.url, timeout=PATIENCE)
    return client if name.startswith("async") else client.sync


async def result(given: Any) -> Any:
    """What a method of either kind gives."""
    return await given if inspect.isawaitable(given) else given


async def each(stream: Any) -> AsyncIterator[Any]:
    """What a generator of either kind gives."""
    if inspect.isasyncgen(stream):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item
