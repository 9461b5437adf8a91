"""The documented asynchronous clients."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

from arriero.client import requests, runs
from arriero.client.caller import AsyncCaller
from arriero.client.settings import ClientSettings
from arriero.client.streams import event_data
from arriero.types.services import ServiceDefinition
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import SessionDefinition, TaskDefinition, TaskResult

DEFAULT_TIMEOUT = 120.0
#: Accepted wherever it is documented; results are waited for, so nothing is asked at intervals.
DEFAULT_POLL_INTERVAL = 0.5


class AsyncSessionClient:
    """One session: its tasks, their results and their streams.

    ``timeout`` is in seconds and bounds every call, waiting for the control plane included; None is no limit.
    Every method raises ``ControlPlaneUnavailable`` when the control plane cannot be reached for that long, and
    ``UnknownSession`` when the session is gone. Cancelling a call ends it at once; a task that it submitted goes on.
    """

    def __init__(
        self,
        control_plane_config: ControlPlaneConfig,
        session_id: str,
        timeout: float | None = DEFAULT_TIMEOUT,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        *,
        settings: ClientSettings | None = None,
    ) -> None:
        requests.segment("session id", session_id)
        self.session_id = session_id
        self.timeout = timeout
        self.poll_interval = poll_interval
        self._caller = AsyncCaller(control_plane_config.url, timeout, settings)

    async def run(self, service_name: str, **kwargs: Any) -> str:
        """Run a service with these arguments, wait for its end, give its result as text.

        Errors: ``NotJSON`` before anything is sent when the arguments are not JSON; ``UnknownService``;
        ``TaskFailed``, ``TaskCancelled``, ``TaskTimedOut`` or ``TaskDead`` when the task does not succeed;
        ``WaitTimeout`` when it takes longer than ``timeout``, and then it goes on.
        """
        task = runs.call_of(self.session_id, service_name, kwargs)
        return await self._caller.converse(runs.run(task, self._caller.timeout, self._caller.longest_wait))

    async def run_nowait(self, service_name: str, **kwargs: Any) -> str:
        """Run a service with these arguments; gives the task's id as soon as it is stored."""
        return await self._caller.call(requests.submit(runs.call_of(self.session_id, service_name, kwargs)))

    async def create_task(self, task_def: TaskDefinition, *, idempotency_key: str | None = None) -> str:
        """Submit a task, into this session; gives its id as soon as it is stored.

        The same task submitted again is the same task. With an idempotency key, the key decides on the task's id.
        """
        task_def.session_id = self.session_id
        if idempotency_key is not None:
            task_def.task_id = requests.new_task_id(self.session_id, idempotency_key)
        return await self._caller.call(requests.submit(requests.Submission.of(task_def, self.session_id)))

    async def get_tasks(self) -> list[TaskDefinition]:
        """The tasks of the session in the order of their submission, with their status."""
        return await self._caller.call(requests.list_tasks(self.session_id))

    async def get_current_task(self) -> TaskDefinition | None:
        """The task that was submitted last."""
        return await self._caller.call(requests.current_task(self.session_id))

    async def get_task_result(self, task_id: str) -> TaskResult | None:
        """What came of a task, its error included, or None while it goes on."""
        return await self._caller.call(requests.get_result(self.session_id, task_id))

    def get_task_result_stream(self, task_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a task as they come, from the first on, each once and in order, until it ends.

        Dropped connections are resumed. A task that does not succeed raises as :meth:`run` does, after its events.
        ``timeout`` bounds the wait for the first event (``WaitTimeout``) and each outage, not the whole stream.
        """
        return self._caller.follow(self.session_id, task_id, event_data)

    async def aclose(self) -> None:
        """Close the connections that no other client of the process uses. Without it, the end of the loop does."""
        await self._caller.aclose()

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
        self._caller = AsyncCaller(control_plane_config.url, timeout, settings)

    async def create_session(self, poll_interval: float = DEFAULT_POLL_INTERVAL) -> AsyncSessionClient:
        """Make a session."""
        return self._session(await self._caller.call(requests.create_session()), poll_interval)

    async def list_sessions(self) -> list[SessionDefinition]:
        """Every session."""
        return list((await self._caller.call(requests.list_sessions())).values())

    async def get_session(self, session_id: str, poll_interval: float = DEFAULT_POLL_INTERVAL) -> AsyncSessionClient:
        """A session that exists; otherwise ``UnknownSession``, which is a ``ValueError``."""
        await self._caller.call(requests.get_session(session_id))
        return self._session(session_id, poll_interval)

    async def get_or_create_session(
        self, session_id: str, poll_interval: float = DEFAULT_POLL_INTERVAL
    ) -> AsyncSessionClient:
        """The session of this id, made if it is not there."""
        return self._session(await self._caller.call(requests.create_session(session_id)), poll_interval)

    async def get_session_definition(self, session_id: str) -> SessionDefinition:
        """A session with its state and the ids of its tasks."""
        return await self._caller.call(requests.get_session(session_id))

    async def delete_session(self, session_id: str) -> None:
        """Remove a session and its tasks."""
        await self._caller.call(requests.delete_session(session_id))

    async def get_service(self, service_name: str) -> ServiceDefinition:
        """What is known of a service; otherwise ``UnknownService``."""
        return await self._caller.call(requests.get_service(service_name))

    async def list_services(self) -> list[ServiceDefinition]:
        """Every known service."""
        return list((await self._caller.call(requests.list_services())).values())

    async def register_service(self, service_def: ServiceDefinition) -> None:
        """Make a service known, or replace what is known of it."""
        await self._caller.call(requests.register_service(service_def))

    async def deregister_service(self, service_name: str) -> None:
        """Take a service out of the registry."""
        await self._caller.call(requests.deregister_service(service_name))

    async def aclose(self) -> None:
        """Close the connections that no other client of the process uses. Without it, the end of the loop does."""
        await self._caller.aclose()

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
