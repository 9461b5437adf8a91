"""The control plane as users set it up: the documented ``ControlPlaneServer``."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from arriero.core.core import Core
from arriero.message_queues import SimpleMessageQueueServer
from arriero.message_queues.backends import label_of
from arriero.message_queues.base import MessageQueue, PublishCallback, StartConsumingCallable
from arriero.orchestrators import BaseOrchestrator, SimpleOrchestrator, SimpleOrchestratorConfig
from arriero.state_stores import StateStore, open_store
from arriero.types.errors import ArrieroError, ConfigurationError, Unavailable
from arriero.types.ids import generate_id
from arriero.types.link import LARGEST_MESSAGE
from arriero.types.messages import CONTROL_PLANE_NAME, QueueMessage
from arriero.types.services import ServiceDefinition
from arriero.types.serving import AsgiServer, BodyLimit, bind
from arriero.types.settings import ControlPlaneConfig

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from arriero.message_queues import CallableMessageConsumer, RemoteMessageConsumer

logger = logging.getLogger("arriero.control_plane")

DEFAULT_STORE = "sqlite:///.arriero/state.db"
CONTROL_PLANE_MESSAGE_TYPE = CONTROL_PLANE_NAME
#: Messages of other producers that are taken at once.
AT_ONCE = 16


class ControlPlaneServer:
    """Sessions, tasks, streams and the registry, served over HTTP.

    ``state_store`` is a :class:`StateStore`, or ``config.state_store_uri`` names one; both is an error. Settings may
    be given as a ``config`` or one by one, by the names of :class:`ControlPlaneConfig`. A queue server of the same
    process may stand for its queue. Used as an async context
    manager it is ready inside; ``launch_server`` runs it until it is cancelled.
    """

    def __init__(
        self,
        message_queue: MessageQueue | SimpleMessageQueueServer | None = None,
        orchestrator: BaseOrchestrator | None = None,
        publish_callback: PublishCallback | None = None,
        state_store: StateStore | None = None,
        config: ControlPlaneConfig | None = None,
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
        return app if self.config.cors_origins else Front(Hot(self.core), app)

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
        sock = bind(config.internal_host or config.host, 8000 if port is None else port)
        try:
            server = AsgiServer(self.front(), sock, ws_max_size=LARGEST_MESSAGE, ws_ping_interval=None)
            if not config.port:
                self.config.port = server.port
            async with self, server:
                self.started.set()
                self._tell(server.url)
                try:
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
