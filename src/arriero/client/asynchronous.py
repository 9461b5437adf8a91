"""The documented asynchronous clients."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Self

from arriero.client import requests
from arriero.client.caller import AsyncCaller
from arriero.client.session import Session
from arriero.client.settings import ClientSettings
from arriero.types.history import DeadTask
from arriero.types.services import ServiceDefinition
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import SessionDefinition, TaskDefinition

DEFAULT_TIMEOUT = 120.0
#: Accepted wherever it is documented; results are waited for, so nothing is asked at intervals.
DEFAULT_POLL_INTERVAL = 0.5


class AsyncSessionClient(Session):
    __doc__ = Session.__doc__

    def __init__(
        self,
        control_plane_config: ControlPlaneConfig,
        session_id: str,
        timeout: float | None = DEFAULT_TIMEOUT,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        *,
        settings: ClientSettings | None = None,
    ) -> None:
        super().__init__(AsyncCaller(control_plane_config.url, timeout, settings), session_id)
        self.timeout = timeout
        self.poll_interval = poll_interval

    async def aclose(self) -> None:
        """Close the connections that no other client of the process uses. Without it, the end of the loop does."""
        await self.caller.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncLlamaDeployClient:
    """The control plane as seen by its users: sessions and services. ``timeout`` as in :class:`AsyncSessionClient`.

    Clients share their connections, so they may be made freely, and used from several event loops.
    """

    def __init__(
        self,
        control_plane_config: ControlPlaneConfig,
        timeout: float | None = DEFAULT_TIMEOUT,
        *,
        settings: ClientSettings | None = None,
    ) -> None:
        self.control_plane_config = control_plane_config
        self.timeout = timeout
        self._settings = settings
        self.caller = AsyncCaller(control_plane_config.url, timeout, settings)

    async def create_session(self, poll_interval: float = DEFAULT_POLL_INTERVAL) -> AsyncSessionClient:
        """Make a session."""
        return self._session(await self.caller.call(requests.create_session()), poll_interval)

    async def list_sessions(self) -> list[SessionDefinition]:
        """Every session."""
        return await self.caller.call_all(requests.list_sessions)

    async def get_session(self, session_id: str, poll_interval: float = DEFAULT_POLL_INTERVAL) -> AsyncSessionClient:
        """A session that exists; otherwise ``UnknownSession``, which is a ``ValueError``."""
        await self.caller.call(requests.get_session(session_id))
        return self._session(session_id, poll_interval)

    async def get_or_create_session(
        self, session_id: str, poll_interval: float = DEFAULT_POLL_INTERVAL
    ) -> AsyncSessionClient:
        """The session of this id, made if it is not there."""
        return self._session(await self.caller.call(requests.create_session(session_id)), poll_interval)

    async def get_session_definition(self, session_id: str) -> SessionDefinition:
        """A session with its state and the ids of its tasks."""
        return await self.caller.call(requests.get_session(session_id))

    async def delete_session(self, session_id: str) -> None:
        """Remove a session and its tasks."""
        await self.caller.call(requests.delete_session(session_id))

    async def get_service(self, service_name: str) -> ServiceDefinition:
        """What is known of a service; otherwise ``UnknownService``."""
        return await self.caller.call(requests.get_service(service_name))

    async def list_services(self) -> list[ServiceDefinition]:
        """Every known service."""
        return list((await self.caller.call(requests.list_services())).values())

    async def register_service(self, service_def: ServiceDefinition) -> None:
        """Make a service known, or replace what is known of it."""
        await self.caller.call(requests.register_service(service_def))

    async def deregister_service(self, service_name: str) -> None:
        """Take a service out of the registry."""
        await self.caller.call(requests.deregister_service(service_name))

    async def find_task(self, task_id: str) -> TaskDefinition:
        """A task as it is now, whichever session it belongs to; otherwise ``UnknownTask``."""
        return await self.caller.call(requests.find_task(task_id))

    async def list_dead(self, service_name: str | None = None) -> list[DeadTask]:
        """The tasks that failed or are dead and that nobody has dealt with, of one service or of all, oldest first."""
        return await self.caller.call_all(partial(requests.list_dead, service_name))

    async def get_dead(self, task_id: str) -> DeadTask:
        """One of them; otherwise ``UnknownTask``."""
        return await self.caller.call(requests.get_dead(task_id))

    async def replay_dead(self, task_id: str, *, idempotency_key: str | None = None) -> str:
        """Begin a task with the same input in the same session, and take the old one off the list; gives the new id."""
        return await self.caller.call(requests.replay_dead(task_id, idempotency_key))

    async def drop_dead(self, task_id: str) -> None:
        """Take a task off the list; the task itself stays for its time."""
        await self.caller.call(requests.drop_dead(task_id))

    async def aclose(self) -> None:
        """Close the connections that no other client of the process uses. Without it, the end of the loop does."""
        await self.caller.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _session(self, session_id: str, poll_interval: float) -> AsyncSessionClient:
        return AsyncSessionClient(
            self.control_plane_config, session_id, self.timeout, poll_interval, settings=self._settings
        )
