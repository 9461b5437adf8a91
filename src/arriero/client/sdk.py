"""The documented ``Client``: settings from the environment, and the control plane under ``.core``."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import PrivateAttr
from pydantic_settings import BaseSettings, SettingsConfigDict

from arriero.client import requests
from arriero.client.asynchronous import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from arriero.client.caller import AsyncCaller
from arriero.client.session import Session
from arriero.client.settings import default_settings
from arriero.types.history import DeadTask
from arriero.types.services import ServiceDefinition

if TYPE_CHECKING:
    from arriero.client.sdk_sync import SyncClient


class Client(BaseSettings):
    """Everything a program needs of a system that runs elsewhere; environment prefix ``LLAMA_DEPLOY_``.

    ``core`` holds sessions and services, ``sync`` the same for programs without an event loop.
    """

    model_config = SettingsConfigDict(env_prefix="LLAMA_DEPLOY_", env_parse_none_str="None", validate_assignment=True)

    #: Where the API server is. Nothing uses it yet.
    api_server_url: str = "http://localhost:4501"
    #: Where the control plane is.
    control_plane_url: str = "http://localhost:8000"
    #: Whether certificates are taken unseen.
    disable_ssl: bool = False
    #: For how many seconds each call goes on, waiting for the control plane included; ``None`` is no limit.
    timeout: float | None = DEFAULT_TIMEOUT
    #: Accepted, without effect: nothing is asked at intervals.
    poll_interval: float = DEFAULT_POLL_INTERVAL

    _core: Core | None = PrivateAttr(default=None)

    @property
    def core(self) -> Core:
        """The control plane: ``core.sessions`` and ``core.services``."""
        url, timeout, settings = self.control_plane_url.rstrip("/"), self.timeout, default_settings()
        if self.disable_ssl:
            settings = settings.model_copy(update={"verify_tls": False})
        core = self._core
        if core is None or (core.caller.url, core.caller.timeout, core.caller.settings) != (url, timeout, settings):
            core = self._core = Core(AsyncCaller(url, timeout, settings))
        return core

    @property
    def sync(self) -> SyncClient:
        """The same, without ``await``. It works where an event loop runs, too, which waits meanwhile."""
        from arriero.client.sdk_sync import SyncClient

        return SyncClient(self)

    @property
    def apiserver(self) -> Any:
        """Not there yet."""
        raise AttributeError(
            "this version of Arriero has no API server, so Client has no `apiserver`; what runs is under `core`"
        )

    async def aclose(self) -> None:
        """Close the connections that no other client of the process uses. Without it, the end of the loop does."""
        if self._core is not None:
            await self._core.caller.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Core:
    """The control plane as seen by its users."""

    def __init__(self, caller: AsyncCaller) -> None:
        self.caller = caller

    @property
    def sessions(self) -> SessionCollection:
        """Its sessions."""
        return SessionCollection(self.caller)

    @property
    def services(self) -> ServiceCollection:
        """Its registry."""
        return ServiceCollection(self.caller)

    @property
    def dead(self) -> DeadCollection:
        """Its tasks that failed or are dead."""
        return DeadCollection(self.caller)


class SessionCollection:
    """The sessions of a control plane."""

    def __init__(self, caller: AsyncCaller) -> None:
        self.caller = caller

    async def list(self) -> list[Session]:
        """Every session."""
        listed = await self.caller.call_all(requests.list_sessions)
        return [Session(self.caller, session.session_id) for session in listed]

    async def create(self) -> Session:
        """Make a session."""
        return Session(self.caller, await self.caller.call(requests.create_session()))

    async def get(self, id: str) -> Session:
        """A session that exists; otherwise ``UnknownSession``, which is a ``ValueError``."""
        await self.caller.call(requests.get_session(id))
        return Session(self.caller, id)

    async def get_or_create(self, id: str) -> Session:
        """The session of this id, made if it is not there."""
        return Session(self.caller, await self.caller.call(requests.create_session(id)))

    async def delete(self, session_id: str) -> None:
        """Remove a session and its tasks."""
        await self.caller.call(requests.delete_session(session_id))


class DeadCollection:
    """The tasks that failed or are dead, and that nobody has dealt with."""

    def __init__(self, caller: AsyncCaller) -> None:
        self.caller = caller

    async def list(self, service_name: str | None = None) -> list[DeadTask]:
        """Those of one service, or all, oldest first."""
        return await self.caller.call_all(partial(requests.list_dead, service_name))

    async def get(self, id: str) -> DeadTask:
        """One of them; otherwise ``UnknownTask``."""
        return await self.caller.call(requests.get_dead(id))

    async def replay(self, id: str) -> str:
        """Begin a task with the same input in the same session, and take the old one off the list; gives the new id."""
        return await self.caller.call(requests.replay_dead(id))

    async def drop(self, id: str) -> None:
        """Take a task off the list; the task itself stays for its time."""
        await self.caller.call(requests.drop_dead(id))


class Service:
    """A service of the registry."""

    def __init__(self, definition: ServiceDefinition) -> None:
        self.definition = definition

    def __repr__(self) -> str:
        return f"Service({self.id!r})"

    @property
    def id(self) -> str:
        """Its name."""
        return self.definition.service_name

    @property
    def service_name(self) -> str:
        """The same."""
        return self.definition.service_name

    @property
    def description(self) -> str:
        """What it does."""
        return self.definition.description


class ServiceCollection:
    """The registry of a control plane."""

    def __init__(self, caller: AsyncCaller) -> None:
        self.caller = caller

    async def list(self) -> list[Service]:
        """Every known service."""
        return [Service(definition) for definition in (await self.caller.call(requests.list_services())).values()]

    async def get(self, id: str) -> Service:
        """What is known of a service; otherwise ``UnknownService``."""
        return Service(await self.caller.call(requests.get_service(id)))

    async def register(self, service: ServiceDefinition) -> Service:
        """Make a service known, or replace what is known of it."""
        await self.caller.call(requests.register_service(service))
        return Service(service)

    async def deregister(self, service_name: str) -> None:
        """Take a service out of the registry."""
        await self.caller.call(requests.deregister_service(service_name))
