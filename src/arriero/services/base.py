"""What every service has in common, and what users may build their own kind on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arriero.message_queues.base import MessageQueue, PublishCallback, StartConsumingCallable
from arriero.services.detached import Detached, task_of
from arriero.services.link import WebSocketLink
from arriero.services.registration import ControlPlaneCalls
from arriero.services.worker import Worker, WorkerOptions
from arriero.types import tokens
from arriero.types.access import Access, part_tokens
from arriero.types.errors import ConfigurationError
from arriero.types.guard import READING, Guard
from arriero.types.handling import Handled, Handler, HandlerContext
from arriero.types.ids import generate_id
from arriero.types.link import ControlPlaneLink, Welcome
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.services import ServiceDefinition
from arriero.types.serving import AsgiServer, bind
from arriero.types.settings import ControlPlaneConfig

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from arriero.message_queues import CallableMessageConsumer, RemoteMessageConsumer


logger = logging.getLogger("arriero.services")

#: Seconds that a worker gets to connect before the service's own routes are served.
HEAD_START = 0.5
#: The most messages that a detached service holds at once.
MOST_AT_ONCE = 1000


@dataclass(slots=True)
class ServiceOptions:
    """How a service shows itself, listens and works; see :class:`~arriero.services.config.WorkflowServiceConfig`."""

    description: str = "A service."
    host: str | None = None
    port: int | None = None
    internal_host: str | None = None
    internal_port: int | None = None
    running: bool = True
    step_interval: float = 0.1
    max_concurrent_tasks: int = 8
    raise_exceptions: bool = False
    session_concurrency: str = "ordered"
    max_queue: int | None = None
    #: Seconds that running items get to end when the service is stopped.
    drain: float = 10.0


class _MessageHandler:
    """Runs a user's own ``process_message`` as the handler of a service."""

    def __init__(self, service: BaseService) -> None:
        self.accepts: dict[str, bool] = {}
        self._service = service

    async def handle(self, context: HandlerContext) -> Handled:
        grant = context.grant
        data = {
            "input": grant.input,
            "task_id": grant.task_id,
            "session_id": grant.session_id,
            "service_id": grant.service,
            "agent_id": grant.service,
        }
        message = QueueMessage(type=grant.service, action=ActionTypes.NEW_TASK, data=data, headers=grant.headers)
        return Handled(await self._service.process_message(message))


def _needed(request: Scope) -> tokens.Scope:
    """What a request to a service's own routes needs: they show it, or submit a task to it."""
    if request["type"] != "http":
        return tokens.Scope.DEPLOY
    return tokens.Scope.READ if request["method"] in READING else tokens.Scope.RUN


class BaseService:
    """A service. Subclass it and write ``process_message``: it gets a ``NEW_TASK`` message, its return is the result.

    A service works once it is registered to a control plane and one of ``launch_server``, ``launch_local`` or the
    callable from ``register_to_message_queue`` runs; they share one worker. ``running = False`` pauses it.

    Without a ``message_queue`` it takes that of the control plane which it is registered to, whose address may be given
    here, in any of its documented forms, rather than with the call.
    """

    service_type = "service"

    def __init__(  # noqa: PLR0913  # as documented
        self,
        service_name: str = "",
        message_queue: MessageQueue | str | None = None,
        options: ServiceOptions | None = None,
        publish_callback: PublishCallback | None = None,
        *,
        name: str = "",
        control_plane_url: str | None = None,
        control_plane_config: ControlPlaneConfig | None = None,
    ) -> None:
        if isinstance(message_queue, str):
            control_plane_url, message_queue = message_queue, None
        if not (service_name or name):
            raise ConfigurationError("a service needs a name")
        self.service_name = service_name or name
        self._message_queue = message_queue
        self._control_plane_url = control_plane_config.url if control_plane_config is not None else control_plane_url
        self.options = options or ServiceOptions()
        self.publish_callback = publish_callback
        self.publisher_id = f"{type(self).__qualname__}-{generate_id()}"
        self.topic_namespace = "llama_deploy"
        self._running = self.options.running
        self._calls: ControlPlaneCalls | None = None
        self._link: ControlPlaneLink | None = None
        self._registered = asyncio.Event()
        self._worker: Worker | None = None
        self._detached: Detached | None = None
        self._broken = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._users = 0
        self._app: FastAPI | None = None
        self.ready = asyncio.Event()

    def handler(self) -> Handler:
        """What runs the items."""
        return _MessageHandler(self)

    async def process_message(self, message: QueueMessage) -> Any:
        """Take one documented message, as :meth:`take` does. In a kind of one's own: do its work, give the result."""
        await self.take(message)

    async def take(self, message: QueueMessage) -> None:
        """Take one documented message: a new task is handed to the control plane, which has it done once.

        Without a control plane the service does it itself and publishes its events and its result.
        """
        task = task_of(message, self.service_name)
        if self._calls is not None:
            await self._calls.submit(task)
        else:
            await (await self._detached_here()).take(task)

    # What it is

    @property
    def message_queue(self) -> MessageQueue:
        """Errors: ``ConfigurationError`` while it has none."""
        if self._message_queue is None:
            raise ConfigurationError(
                f"service {self.service_name!r} was made without a message queue: give it one, or register it to a "
                "control plane and start it, for it then has that one's"
            )
        return self._message_queue

    @message_queue.setter
    def message_queue(self, queue: MessageQueue) -> None:
        self._message_queue = queue

    @property
    def service_definition(self) -> ServiceDefinition:
        return ServiceDefinition(
            service_name=self.service_name,
            description=self.options.description,
            host=self.options.host,
            port=self.options.port,
            max_queue=self.options.max_queue,
        )

    @property
    def tool_name(self) -> str:
        """The service's name as a tool."""
        return f"{self.service_name}-as-tool"

    @property
    def running(self) -> bool:
        return self._running

    @running.setter
    def running(self, value: bool) -> None:
        self._running = value
        for worker in self._workers():
            worker.running = value

    async def home(self) -> dict[str, str]:
        """What ``GET /`` shows."""
        return {
            "service_name": self.service_name,
            "description": self.options.description,
            "running": str(self._running),
            "step_interval": str(self.options.step_interval),
            "num_outstanding_calls": str(sum(worker.outstanding for worker in self._workers())),
            "type": self.service_type,
        }

    def get_topic(self, msg_type: str) -> str:
        return f"{self.topic_namespace}.{msg_type}"

    # Registration

    async def register_to_control_plane(self, control_plane_url: str | None = None) -> None:
        """Make the service known there, and work for it from now on."""
        url = control_plane_url or self._control_plane_url
        if url is None:
            raise ConfigurationError(f"give service {self.service_name!r} the address of its control plane")
        config = await ControlPlaneCalls(url).register(self.service_definition)
        self.topic_namespace = config.topic_namespace
        self.attach(WebSocketLink(url), url)

    def attach(self, link: ControlPlaneLink, control_plane_url: str) -> None:
        """Work over this link to the control plane of that address; for wiring within one process."""
        self._calls = ControlPlaneCalls(control_plane_url)
        self._link = link
        self._registered.set()

    async def deregister_from_control_plane(self, control_plane_url: str | None = None) -> None:
        """Make the service unknown; tasks for it are refused from now on."""
        await self._control_plane().deregister(self.service_name)

    async def register_to_message_queue(self) -> StartConsumingCallable:
        """Gives the coroutine function that works until it is cancelled.

        Until the service is registered to a control plane, it takes tasks from its topic and answers by messages.
        """
        return self._consume

    async def deregister_from_message_queue(self) -> None:
        """Stop listening: what runs is finished first."""
        if self._worker is not None:
            await self._worker.drain(None)
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def get_session_state(self, session_id: str) -> dict[str, Any] | None:
        """The session's state, None when there is no such session or no control plane."""
        return await self._calls.get_state(session_id) if self._calls else None

    async def update_session_state(self, session_id: str, state: dict[str, Any]) -> None:
        """Merge keys into the session's state."""
        if self._calls is not None:
            await self._calls.update_state(session_id, state)

    # Messages

    async def publish(self, message: QueueMessage, **kwargs: Any) -> Any:
        """Publish in the service's name."""
        message.publisher_id = self.publisher_id
        return await self.message_queue.publish(
            message, callback=self.publish_callback, topic=self.get_topic(message.type), **kwargs
        )

    def as_consumer(self, remote: bool = False) -> CallableMessageConsumer | RemoteMessageConsumer:
        """A consumer of the service's messages: in process, or over its ``/process_message`` route."""
        from arriero.message_queues import CallableMessageConsumer, RemoteMessageConsumer

        if not remote:
            return CallableMessageConsumer(id_=self.publisher_id, message_type=self.service_name, handler=self.take)
        if not self.options.host or not self.options.port:
            raise ConfigurationError("a remote consumer needs the service's host and port")
        url = f"http://{self.options.host}:{self.options.port}/process_message"
        return RemoteMessageConsumer(id_=self.publisher_id, message_type=self.service_name, url=url)

    # Running

    async def processing_loop(self) -> None:
        """Work until cancelled. Several callers share one worker, which ends with the last of them."""
        async with self._shared_worker() as work:
            await asyncio.shield(work)

    async def launch_local(self) -> asyncio.Task[None]:
        """Start working in a task, which works until it is cancelled."""
        return asyncio.get_running_loop().create_task(self.processing_loop(), name=f"service {self.service_name}")

    async def launch_server(self) -> None:
        """Serve the service's own routes, and work, until cancelled."""
        options = self.options
        port = options.internal_port if options.internal_port is not None else options.port
        host = options.internal_host or options.host or "127.0.0.1"
        taken = part_tokens(tokens.Scope.DEPLOY)
        sock = bind(host, port or 0, tokens=taken.configured)
        with sock:
            guarded = Guard(self._serve, Access.to(taken, host, options.host or host), _needed)
            server = AsgiServer(guarded, sock, lifespan="off")
            if not options.port:
                options.host, options.port = options.host or server.host, server.port
            async with self._shared_worker() as work:
                await self._head_start(work)
                async with server:
                    await asyncio.shield(work)

    async def _head_start(self, work: asyncio.Task[None]) -> None:
        """Work comes first: the server loads what it needs once the worker is connected, or after a moment."""
        ready = asyncio.ensure_future(self.ready.wait())
        try:
            await asyncio.wait({ready, work}, timeout=HEAD_START, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, made when somebody asks, and away from the loop, for it takes a while to load."""
        if self._app is None:
            await asyncio.to_thread(lambda: self.app)
        await self.app(scope, receive, send)

    @property
    def app(self) -> FastAPI:
        """The ASGI application with the service's own routes."""
        if self._app is None:
            from arriero.services.app import service_app

            self._app = service_app(self)
        return self._app

    async def drain(self, seconds: float | None = None) -> None:
        """Take nothing new and wait for what runs."""
        if self._worker is not None:
            await self._worker.drain(seconds)

    async def _consume(self) -> None:
        if not self._registered.is_set():
            await self._consume_detached()
        await self.processing_loop()

    async def _consume_detached(self) -> None:
        """Take tasks from the topic until the service is registered."""
        detached = await self._detached_here()
        topic, prefetch = self.get_topic(self.service_name), min(self.options.max_concurrent_tasks, MOST_AT_ONCE)
        subscription = await self.message_queue.subscribe(topic, prefetch)
        listening = asyncio.ensure_future(detached.listen(subscription))
        registration = asyncio.ensure_future(self._registration())
        try:
            await asyncio.wait({registration, listening}, return_when=asyncio.FIRST_COMPLETED)
            await (listening if listening.done() else registration)
        finally:
            listening.cancel()
            registration.cancel()
            await asyncio.gather(listening, registration, return_exceptions=True)
            await subscription.aclose()
            await self._leave_detached()

    async def _registration(self) -> None:
        """Wait for it. Errors: what the worker of a detached service raised."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._registered, self._broken)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._detached is not None and self._broken.is_set():
            await self._detached.failure()

    async def _detached_here(self) -> Detached:
        if self._detached is None:
            self._broken.clear()
            self._detached = Detached(self, self._make_worker, self._broken.set)
        await self._detached.open()
        return self._detached

    async def _leave_detached(self) -> None:
        detached, self._detached = self._detached, None
        if detached is not None:
            await detached.aclose()

    def _workers(self) -> list[Worker]:
        found = [self._worker, self._detached.worker if self._detached is not None else None]
        return [worker for worker in found if worker is not None]

    def _make_worker(
        self, link: ControlPlaneLink, queue: MessageQueue, on_open: Callable[[Welcome], None] | None = None
    ) -> Worker:
        worker = Worker(
            self._worker_options(),
            self.handler(),
            link,
            queue,
            raise_exceptions=self.options.raise_exceptions,
            on_open=on_open or self._welcomed,
        )
        worker.running = self._running
        return worker

    @asynccontextmanager
    async def _shared_worker(self) -> AsyncIterator[asyncio.Task[None]]:
        self._users += 1
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._run_worker(), name=f"worker {self.service_name}")
        work = self._work
        try:
            yield work
        finally:
            self._users -= 1
            if not self._users:
                await self._leave_detached()
            if not self._users and not work.done():
                await self.drain(self.options.drain)
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _run_worker(self) -> None:
        await self._registration()
        assert self._link is not None  # set before the event
        async with self._queue() as queue:
            self._worker = self._make_worker(self._link, queue)
            try:
                await self._worker.run()
            finally:
                self.ready.clear()

    @asynccontextmanager
    async def _queue(self) -> AsyncIterator[MessageQueue]:
        """Its own, or for as long as it works that of its control plane."""
        if self._message_queue is not None:
            yield self._message_queue
            return
        from arriero.message_queues import config_from_mapping, queue_from_config

        shown = await self._control_plane().queue_config()
        async with queue_from_config(config_from_mapping(shown)) as queue:
            self._message_queue = queue
            try:
                yield queue
            finally:
                self._message_queue = None

    def _welcomed(self, welcome: Welcome) -> None:
        self.topic_namespace = welcome.topic_namespace
        self.ready.set()
        self._tell()

    def _tell(self) -> None:
        options = self.options
        own = f"; own routes at http://{options.host}:{options.port}" if options.host and options.port else ""
        where = self._calls.url if self._calls is not None else "its control plane"
        slots = options.max_concurrent_tasks
        logger.info("service %r is connected to %s with %d slots%s", self.service_name, where, slots, own)

    def _worker_options(self) -> WorkerOptions:
        return WorkerOptions(
            service=self.service_name,
            slots=self.options.max_concurrent_tasks,
            description=self.options.description,
            host=self.options.host,
            port=self.options.port,
            parallel=self.options.session_concurrency == "parallel",
            max_queue=self.options.max_queue,
        )

    def _control_plane(self) -> ControlPlaneCalls:
        if self._calls is None:
            raise ConfigurationError(
                f"service {self.service_name!r} is not registered; call register_to_control_plane first"
            )
        return self._calls
