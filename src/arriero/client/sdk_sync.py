"""``Client.sync``: what the SDK's client offers, without ``await``."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from arriero.client import portal
from arriero.client.caller import AsyncCaller
from arriero.client.sdk import Client, Core, DeadCollection, Service, ServiceCollection, SessionCollection
from arriero.client.synchronous import SyncSession, ask, told_by
from arriero.types.history import DeadTask
from arriero.types.services import ServiceDefinition


@told_by(Client)
class SyncClient:
    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def core(self) -> SyncCore:
        """The control plane: ``core.sessions`` and ``core.services``."""
        return SyncCore(self._client.core)

    @property
    def apiserver(self) -> Any:
        """Not there yet."""
        return self._client.apiserver

    def close(self) -> None:
        """Close the connections that no other client of the process uses. Without it, the end of the process does."""
        portal.call(self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@told_by(Core)
class SyncCore:
    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def sessions(self) -> SyncSessionCollection:
        """Its sessions."""
        return SyncSessionCollection(self._core.caller)

    @property
    def services(self) -> SyncServiceCollection:
        """Its registry."""
        return SyncServiceCollection(self._core.caller)

    @property
    def dead(self) -> SyncDeadCollection:
        """Its tasks that failed or are dead."""
        return SyncDeadCollection(self._core.caller)


@told_by(SessionCollection)
class SyncSessionCollection:
    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller
        self._sessions = SessionCollection(caller)

    def list(self) -> list[SyncSession]:
        return [SyncSession(session) for session in ask(self._caller, self._sessions.list)]

    def create(self) -> SyncSession:
        return SyncSession(ask(self._caller, self._sessions.create))

    def get(self, id: str) -> SyncSession:
        return SyncSession(ask(self._caller, self._sessions.get, id))

    def get_or_create(self, id: str) -> SyncSession:
        return SyncSession(ask(self._caller, self._sessions.get_or_create, id))

    def delete(self, session_id: str) -> None:
        ask(self._caller, self._sessions.delete, session_id)


@told_by(DeadCollection)
class SyncDeadCollection:
    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller
        self._dead = DeadCollection(caller)

    def list(self, service_name: str | None = None) -> list[DeadTask]:
        return ask(self._caller, self._dead.list, service_name)

    def get(self, id: str) -> DeadTask:
        return ask(self._caller, self._dead.get, id)

    def replay(self, id: str) -> str:
        return ask(self._caller, self._dead.replay, id)

    def drop(self, id: str) -> None:
        ask(self._caller, self._dead.drop, id)


@told_by(ServiceCollection)
class SyncServiceCollection:
    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller
        self._services = ServiceCollection(caller)

    def list(self) -> list[Service]:
        return ask(self._caller, self._services.list)

    def get(self, id: str) -> Service:
        return ask(self._caller, self._services.get, id)

    def register(self, service: ServiceDefinition) -> Service:
        return ask(self._caller, self._services.register, service)

    def deregister(self, service_name: str) -> None:
        ask(self._caller, self._services.deregister, service_name)
