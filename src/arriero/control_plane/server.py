"""The control plane as users set it up: the documented ``ControlPlaneServer``."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from arriero.control_plane.answers import definition_of, result_of, session_of
from arriero.core.core import Core
from arriero.core.listing import MOST
from arriero.core.tasks import Submission
from arriero.message_queues import SimpleMessageQueueServer
from arriero.message_queues.backends import label_of
from arriero.message_queues.base import MessageQueue, PublishCallback, StartConsumingCallable
from arriero.orchestrators import BaseOrchestrator, SimpleOrchestrator, SimpleOrchestratorConfig
from arriero.state_stores import StateStore, open_store
from arriero.types.access import Access, core_tokens
from arriero.types.credentials import served_here, token_file
from arriero.types.errors import ArrieroError, ConfigurationError, InvalidInput, Unavailable
from arriero.types.guard import READING, Guard
from arriero.types.ids import generate_id
from arriero.types.link import LARGEST_MESSAGE
from arriero.types.messages import CONTROL_PLANE_NAME, ActionTypes, QueueMessage
from arriero.types.services import ServiceDefinition
from arriero.types.serving import AsgiServer, BodyLimit, Faults, bind
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import SessionDefinition, TaskDefinition, TaskResult, TaskStream
from arriero.types.tokens import Scope, Tokens

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from arriero.message_queues import CallableMessageConsumer, RemoteMessageConsumer

logger = logging.getLogger("arriero.control_plane")

DEFAULT_STORE = "sqlite:///.arriero/state.db"
CONTROL_PLANE_MESSAGE_TYPE = CONTROL_PLANE_NAME
#: Where clients may change something, besides those who serve.
OF_CLIENTS = ("/sessions/", "/dead/")
#: Messages of other producers that are taken at once.
AT_ONCE = 16


def needed(scope: Any) -> Scope:
    """What a request needs: reading is for all, sessions and their tasks for clients, and the rest for parts.

    So a route that is new, and a message that may hold a result, are closed to all but those who serve.
    """
    if scope["type"] != "http":
        return Scope.DEPLOY
    if scope["method"] in READING:
        return Scope.READ
    return Scope.RUN if scope["path"].startswith(OF_CLIENTS) else Scope.DEPLOY


class ControlPlaneServer:
    """Sessions, tasks, streams and the registry, served over HTTP.

    ``state_store`` is a :class:`StateStore`, or ``config.state_store_uri`` names one; both is an error. Settings may
    be given as a ``config`` or one by one, by the names of :class:`ControlPlaneConfig`. A queue server of the same
    process may stand for its queue. ``tokens`` are what it takes, by default those of the environment. Used as an async
    context manager it is ready inside; ``launch_server`` runs it until it is cancelled.
    """

    def __init__(
        self,
        message_queue: MessageQueue | SimpleMessageQueueServer | None = None,
        orchestrator: BaseOrchestrator | None = None,
        publish_callback: PublishCallback | None = None,
        state_store: StateStore | None = None,
        config: ControlPlaneConfig | None = None,
        tokens: Tokens | None = None,
        **settings: Any,
    ) -> None:
        if config is not None and settings:
            raise ConfigurationError(f"give config or single settings, not both: {', '.join(sorted(settings))}")
        self.config = config if config is not None else ControlPlaneConfig(**settings)
        if state_store is not None and self.config.state_store_uri:
            raise ConfigurationError("give state_store or state_store_uri, not both")
        if state_store is not None and not isinstance(state_store, StateStore):
            raise ConfigurationError(
                f"state_store is an arriero StateStore, not {type(state_store).__name__}; set state_store_uri instead"
            )
        self.message_queue = (
            message_queue.queue if isinstance(message_queue, SimpleMessageQueueServer) else message_queue
        )
        self._queue_config = message_queue.as_config if message_queue is not None else None
        self.publish_callback = publish_callback
        self.publisher_id = f"{type(self).__qualname__}-{generate_id()}"
        self._store = state_store or open_store(self.config.state_store_uri or DEFAULT_STORE)
        self._orchestrator = orchestrator or SimpleOrchestrator(**SimpleOrchestratorConfig().model_dump())
        self.core = Core(self._store, self.message_queue, self._orchestrator, self.config)
        self.core.kernel.publisher_id, self.core.kernel.publish_callback = self.publisher_id, publish_callback
        self.started = asyncio.Event()
        self._app: FastAPI | None = None
        self._tokens = tokens
        self._file = token_file(self.config.state_store_uri) if state_store is None else None

    @property
    def app(self) -> FastAPI:
        """The ASGI application."""
        if self._app is None:
            from arriero.control_plane.app import make_app

            self._app = make_app(self.core, self._queue_config)
        return self._app

    def front(self) -> ASGIApp:
        """What is served: the application, with the hot routes before it."""
        from arriero.control_plane.hot import BESIDES, ESCAPED, Front, Hot

        app = BodyLimit(self.app, ESCAPED * self.config.max_input + BESIDES)
        return app if self.config.cors_origins else Faults(Front(Hot(self.core), app))

    @property
    def url(self) -> str:
        """Where clients and workers find it."""
        return self.config.url

    @property
    def service_definition(self) -> ServiceDefinition:
        return ServiceDefinition(
            service_name=CONTROL_PLANE_NAME,
            description="The control plane.",
            host=self.config.host,
            port=self.config.port,
        )

    async def launch_server(self) -> None:
        """Serve until cancelled, then drain. The port is bound before anything else is touched."""
        config = self.config
        port = config.internal_port if config.internal_port is not None else config.port
        host = config.internal_host or config.host
        tokens = self._tokens_here()
        sock = bind(host, 8000 if port is None else port, tokens=tokens.configured)
        try:
            access = Access.to(tokens, host, config.host, config.allowed_hosts, config.cors_origins or ())
            server = AsgiServer(
                Guard(self.front(), access, needed), sock, ws_max_size=LARGEST_MESSAGE, ws_ping_interval=None
            )
            if not config.port:
                self.config.port = server.port
            async with self, server:
                self.started.set()
                self._tell(server.url)
                try:
                    with served_here(self.url, tokens.own):
                        await asyncio.get_running_loop().create_future()
                finally:
                    self.core.kernel.waits.end()
        finally:
            self.started.clear()
            sock.close()

    def _tell(self, bound: str) -> None:
        where = self.url if bound == self.url else f"{self.url}, bound to {bound}"
        queue = "none" if self._queue_config is None else label_of(self._queue_config())
        logger.info("control plane ready at %s; state store %s; message queue %s", where, self._store.label, queue)

    def _tokens_here(self) -> Tokens:
        if self._tokens is None:
            self._tokens = core_tokens(self._file, required=self.config.require_token)
        return self._tokens

    async def register_to_message_queue(self) -> StartConsumingCallable:
        """Gives the coroutine function that takes messages from the control plane's topic until cancelled."""
        return self._consume

    def get_topic(self, msg_type: str) -> str:
        return f"{self.config.topic_namespace}.{msg_type}"

    async def process_message(self, message: QueueMessage) -> None:
        """Take one documented message."""
        await self.core.messages.take(message)

    def as_consumer(self, remote: bool = False) -> CallableMessageConsumer | RemoteMessageConsumer:
        """A consumer of the control plane's messages: in process, or over its ``/process_message`` route."""
        from arriero.message_queues import CallableMessageConsumer, RemoteMessageConsumer

        if not remote:
            return CallableMessageConsumer(
                id_=self.publisher_id, message_type=CONTROL_PLANE_NAME, handler=self.process_message
            )
        url = f"{self.url}/process_message"
        return RemoteMessageConsumer(id_=self.publisher_id, message_type=CONTROL_PLANE_NAME, url=url)

    async def register_service(self, service_def: ServiceDefinition) -> ControlPlaneConfig:
        """Make a service known, or replace what is known of it; gives the settings, without what may hold secrets."""
        from arriero.core.services import from_definition

        await self.core.services.register(from_definition(service_def))
        return self.config.model_copy(update={"state_store_uri": None})

    async def deregister_service(self, service_name: str) -> None:
        await self.core.services.deregister(service_name)

    async def get_service(self, service_name: str) -> ServiceDefinition:
        from arriero.core.services import to_definition

        return to_definition(self.core.services.require(service_name))

    async def get_all_services(self) -> dict[str, ServiceDefinition]:
        """Every known service, by its name."""
        from arriero.core.services import to_definition

        return {name: to_definition(record) for name, record in self.core.services.list().items()}

    async def create_session(self) -> str:
        """Make a session; gives its id."""
        return await self.core.sessions.create()

    async def get_session(self, session_id: str) -> SessionDefinition:
        """The session with its state and its newest tasks; otherwise ``UnknownSession``, as everywhere below."""
        return session_of(await self.core.listing.session(session_id))

    async def get_all_sessions(self) -> dict[str, SessionDefinition]:
        """Every session, by its id."""
        found: dict[str, SessionDefinition] = {}
        after: str | None = ""
        while after is not None:
            views, after = await self.core.listing.sessions(after, MOST)
            found |= {view.session_id: session_of(view) for view in views}
        return found

    async def delete_session(self, session_id: str) -> None:
        """Remove the session and its tasks; those still open are ended first."""
        await self.core.sessions.delete(session_id)

    async def get_session_state(self, session_id: str) -> dict[str, Any]:
        return await self.core.sessions.state(session_id)

    async def update_session_state(self, session_id: str, state: dict[str, Any]) -> None:
        """Merge keys into the state."""
        await self.core.sessions.update_state(session_id, state)

    async def add_task_to_session(self, session_id: str, task_def: TaskDefinition) -> str:
        """Accept a task, as a client's submission is accepted; gives its id."""
        task_def.session_id = task_def.session_id or session_id
        fields = ("input", "task_id", "session_id", "service_id", "deadline", "headers")
        submission = Submission(**{name: getattr(task_def, name) for name in fields})
        return (await self.core.tasks.submit(session_id, submission)).id

    async def send_task_to_service(self, task_def: TaskDefinition) -> TaskDefinition:
        """Accept the task in its session, unless it is there already; gives it as it stands."""
        if task_def.session_id is None:
            raise InvalidInput(f"task {task_def.task_id!r} has no session; set session_id")
        return await self.get_task(await self.add_task_to_session(task_def.session_id, task_def))

    async def handle_service_completion(self, task_result: TaskResult) -> None:
        """Take the result of a service that answers by messages; one that has claimed the task reports by its link."""
        data = task_result.model_dump(mode="json")
        await self.process_message(QueueMessage(action=ActionTypes.COMPLETED_TASK, data=data))

    async def add_stream_to_session(self, task_stream: TaskStream) -> None:
        """Take a stream event of such a service."""
        data = task_stream.model_dump(mode="json")
        await self.process_message(QueueMessage(action=ActionTypes.TASK_STREAM, data=data))

    async def get_session_tasks(self, session_id: str) -> list[TaskDefinition]:
        """The session's tasks in the order of submission."""
        found: list[TaskDefinition] = []
        after: str | None = ""
        while after is not None:
            tasks, after = await self.core.listing.tasks(session_id, after, MOST)
            found += map(definition_of, tasks)
        return found

    async def get_current_task(self, session_id: str) -> TaskDefinition | None:
        """The task that was submitted last."""
        task = await self.core.listing.newest(session_id)
        return None if task is None else definition_of(task)

    async def get_task(self, task_id: str) -> TaskDefinition:
        """The task with its status; otherwise ``UnknownTask``."""
        task = await self.core.tasks.get(None, task_id)
        return definition_of(await self.core.show(task.session_id, task_id))

    async def get_task_result(self, task_id: str, session_id: str) -> TaskResult | None:
        """What came of the task, or None while nothing has."""
        task = await self.core.tasks.get(session_id, task_id)
        return result_of(await self.core.tasks.wait(task, 0)) if task.ended else None

    async def get_message_queue_config(self) -> dict[str, dict[str, Any]]:
        """The configuration of the message queue under the name of its class, without secrets."""
        from arriero.control_plane.routes import shown

        if self._queue_config is None:
            raise Unavailable("this control plane has no message queue")
        return shown(self._queue_config())

    async def _consume(self) -> None:
        if self.message_queue is None:
            raise ConfigurationError("this control plane has no message queue to consume from")
        subscription = await self.message_queue.subscribe(self.get_topic(CONTROL_PLANE_NAME), prefetch=AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                async for delivery in subscription:
                    group.create_task(self._take(delivery))
        finally:
            await subscription.aclose()

    async def _take(self, delivery: Any) -> None:
        try:
            await self.core.messages.take(delivery.message)
        except Unavailable:
            await delivery.nack(1.0)
        except ArrieroError as error:
            await delivery.reject(str(error))
        else:
            await delivery.ack()

    async def __aenter__(self) -> Self:
        await self._store.open()
        try:
            await self.core.start()
        except BaseException:
            await self._store.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.core.aclose()
        finally:
            await self._store.aclose()
