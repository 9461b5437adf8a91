"""The documented synchronous clients: the asynchronous ones, run in a thread that works for all of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping
from types import EllipsisType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from arriero.client import nearby, portal
from arriero.client.asynchronous import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    AsyncLlamaDeployClient,
    AsyncSessionClient,
)
from arriero.client.caller import AsyncCaller
from arriero.client.entries import TaskEntry, entries_of, events_of
from arriero.client.events import SentEvent
from arriero.client.session import Session
from arriero.client.settings import ClientSettings
from arriero.client.streams import Entry
from arriero.types.errors import ConfigurationError
from arriero.types.history import DeadTask, TaskHistory
from arriero.types.services import ServiceDefinition
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import EventDefinition, SessionDefinition, TaskDefinition, TaskResult

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)


def told_by(original: type) -> Callable[[C], C]:
    """Each method of the class is described by the asynchronous one of its name."""

    def tell(mirror: C) -> C:
        mirror.__doc__ = mirror.__doc__ or original.__doc__
        for name, method in vars(mirror).items():
            if not name.startswith("_") and callable(method) and not method.__doc__:
                method.__doc__ = getattr(original, name).__doc__
        return mirror

    return tell


def ask(caller: AsyncCaller, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of an asynchronous method that uses the caller."""
    _refuse_here(caller)
    return portal.call(method, *args, **kwargs)


def _refuse_here(caller: AsyncCaller) -> None:
    """Raise when the control plane could not answer while this thread waits for it."""
    if nearby.is_here(caller.url):
        raise ConfigurationError(
            f"the control plane at {caller.url} runs in this event loop, which a synchronous call would block; "
            "use the asynchronous client here, or call from another thread (asyncio.to_thread)"
        )


@told_by(Session)
class SyncSession:
    def __init__(self, session: Session) -> None:
        self._session = session
        self.session_id = session.session_id

    @property
    def id(self) -> str:
        """The same as ``session_id``."""
        return self.session_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r})"

    def run(self, service_name: str, **kwargs: Any) -> str:
        return self._do(self._session.run, service_name, **kwargs)

    def call(
        self,
        service_name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline: float | None = None,
        idempotency_key: str | None = None,
        timeout: float | EllipsisType | None = ...,
    ) -> Any:
        return self._do(
            self._session.call,
            service_name,
            arguments,
            deadline=deadline,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    def run_nowait(self, service_name: str, **kwargs: Any) -> str:
        return self._do(self._session.run_nowait, service_name, **kwargs)

    def create_task(self, task_def: TaskDefinition, *, idempotency_key: str | None = None) -> str:
        return self._do(self._session.create_task, task_def, idempotency_key=idempotency_key)

    def get_tasks(self) -> list[TaskDefinition]:
        return self._do(self._session.get_tasks)

    def get_current_task(self) -> TaskDefinition | None:
        return self._do(self._session.get_current_task)

    def get_task_result(self, task_id: str) -> TaskResult | None:
        return self._do(self._session.get_task_result, task_id)

    def status(self, task_id: str) -> TaskDefinition:
        return self._do(self._session.status, task_id)

    def cancel(self, task_id: str, *, reason: str | None = None) -> TaskDefinition:
        return self._do(self._session.cancel, task_id, reason=reason)

    def history(self, task_id: str, *, data: bool = False) -> TaskHistory:
        return self._do(self._session.history, task_id, data=data)

    def fork(
        self,
        task_id: str,
        *,
        after_step: int | str,
        session_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        return self._do(
            self._session.fork, task_id, after_step=after_step, session_id=session_id, idempotency_key=idempotency_key
        )

    def replay(self, task_id: str, *, session_id: str | None = None, idempotency_key: str | None = None) -> str:
        return self._do(self._session.replay, task_id, session_id=session_id, idempotency_key=idempotency_key)

    def resume(self, task_id: str) -> TaskDefinition:
        return self._do(self._session.resume, task_id)

    def restart(self, task_id: str) -> TaskDefinition:
        return self._do(self._session.restart, task_id)

    def get_task_result_stream(self, task_id: str) -> Generator[dict[str, Any], None, None]:
        for page in self._pages(task_id):
            yield from events_of(page, task_id)

    def follow(self, task_id: str, *, after: str = "") -> Generator[TaskEntry, None, None]:
        for page in self._pages(task_id, after):
            yield from entries_of(page, task_id)

    def send_event(self, service_name: str, task_id: str, ev: SentEvent, *, idempotency_key: str | None = None) -> None:
        self._do(self._session.send_event, service_name, task_id, ev, idempotency_key=idempotency_key)

    def send_event_def(self, task_id: str, ev_def: EventDefinition, *, idempotency_key: str | None = None) -> None:
        self._do(self._session.send_event_def, task_id, ev_def, idempotency_key=idempotency_key)

    def get_state(self) -> dict[str, Any]:
        return self._do(self._session.get_state)

    def update_state(self, changes: Mapping[str, Any]) -> None:
        self._do(self._session.update_state, changes)

    def _do(self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return ask(self._session.caller, method, *args, **kwargs)

    def _pages(self, task_id: str, after: str = "") -> Generator[list[Entry], None, None]:
        caller = self._session.caller
        _refuse_here(caller)
        return portal.iterate(caller.follow(self.session_id, task_id, after))


class SessionClient(SyncSession):
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
        super().__init__(
            AsyncSessionClient(control_plane_config, session_id, timeout, poll_interval, settings=settings)
        )
        self.timeout = timeout
        self.poll_interval = poll_interval

    def close(self) -> None:
        """Close the connections that no other client of the process uses. Without it, the end of the process does."""
        portal.call(self._session.caller.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@told_by(AsyncLlamaDeployClient)
class LlamaDeployClient:
    """The control plane as seen by its users: sessions and services. ``timeout`` as in :class:`SessionClient`.

    It may be used from any number of threads, and where an event loop runs (which waits meanwhile). Clients share their
    connections, so they may be made freely.
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
        self._client = AsyncLlamaDeployClient(control_plane_config, timeout, settings=settings)

    def create_session(self, poll_interval: float = DEFAULT_POLL_INTERVAL) -> SessionClient:
        return self._session(self._do(self._client.create_session, poll_interval))

    def list_sessions(self) -> list[SessionDefinition]:
        return self._do(self._client.list_sessions)

    def get_session(self, session_id: str, poll_interval: float = DEFAULT_POLL_INTERVAL) -> SessionClient:
        return self._session(self._do(self._client.get_session, session_id, poll_interval))

    def get_or_create_session(self, session_id: str, poll_interval: float = DEFAULT_POLL_INTERVAL) -> SessionClient:
        return self._session(self._do(self._client.get_or_create_session, session_id, poll_interval))

    def get_session_definition(self, session_id: str) -> SessionDefinition:
        return self._do(self._client.get_session_definition, session_id)

    def delete_session(self, session_id: str) -> None:
        self._do(self._client.delete_session, session_id)

    def get_service(self, service_name: str) -> ServiceDefinition:
        return self._do(self._client.get_service, service_name)

    def list_services(self) -> list[ServiceDefinition]:
        return self._do(self._client.list_services)

    def register_service(self, service_def: ServiceDefinition) -> None:
        self._do(self._client.register_service, service_def)

    def deregister_service(self, service_name: str) -> None:
        self._do(self._client.deregister_service, service_name)

    def find_task(self, task_id: str) -> TaskDefinition:
        return self._do(self._client.find_task, task_id)

    def list_dead(self, service_name: str | None = None) -> list[DeadTask]:
        return self._do(self._client.list_dead, service_name)

    def get_dead(self, task_id: str) -> DeadTask:
        return self._do(self._client.get_dead, task_id)

    def replay_dead(self, task_id: str, *, idempotency_key: str | None = None) -> str:
        return self._do(self._client.replay_dead, task_id, idempotency_key=idempotency_key)

    def drop_dead(self, task_id: str) -> None:
        self._do(self._client.drop_dead, task_id)

    def close(self) -> None:
        """Close the connections that no other client of the process uses. Without it, the end of the process does."""
        portal.call(self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return ask(self._client.caller, method, *args, **kwargs)

    def _session(self, session: AsyncSessionClient) -> SessionClient:
        return SessionClient(
            self.control_plane_config,
            session.session_id,
            self.timeout,
            session.poll_interval,
            settings=self._settings,
        )
