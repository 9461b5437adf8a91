"""The simple message queue server: topics in memory, by HTTP and by connections that stay open."""

from __future__ import annotations

import asyncio
import contextlib
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from arriero.message_queues.memory import MemoryMessageQueue
from arriero.message_queues.simple.config import SimpleMessageQueueConfig
from arriero.message_queues.simple.frames import OVERHEAD
from arriero.message_queues.simple.pushing import Pushers
from arriero.types.access import Access, part_tokens
from arriero.types.credentials import served_here
from arriero.types.errors import AlreadyInUse, ConfigurationError
from arriero.types.guard import Guard, deploy_alone
from arriero.types.serving import AsgiServer, BodyLimit, bind
from arriero.types.tokens import Tokens

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Seconds between pings, and after which a client that answers none is taken for dead and what it held is put back.
PING_INTERVAL = 20.0
PING_TIMEOUT = 60.0


class SimpleMessageQueueServer:
    """Serves topics that it holds in memory. What is on them is lost when it ends.

    ``queue`` is what is served: code in the same process uses it directly. ``tokens`` are what it takes, by default
    those of the environment; each needs the scope ``deploy``.
    """

    def __init__(
        self,
        config: SimpleMessageQueueConfig | None = None,
        *,
        queue: MemoryMessageQueue | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self.config = config or SimpleMessageQueueConfig()
        self.queue = queue or MemoryMessageQueue(limits=self.config.limits)
        self._tokens = tokens
        self._takes = Tokens()
        self._pushers = Pushers(self.queue, self.config.push_hosts)
        self._server: AsgiServer | None = None
        self._failure: BaseException | None = None
        self._decided = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @cached_property
    def app(self) -> FastAPI:
        """The FastAPI application, with its documentation at ``/docs``."""
        from arriero.message_queues.simple.routes import make_app

        return make_app(self.queue, self._pushers)

    @property
    def port(self) -> int | None:
        """The port that is bound; before the start, the one that is asked for."""
        asked = self.config.port if self.config.internal_port is None else self.config.internal_port
        return asked if self._server is None else self._server.port

    def as_config(self) -> SimpleMessageQueueConfig:
        """The configuration with which clients reach this server; a free port that it took is named in it."""
        return self.config if self.config.port else self.config.model_copy(update={"port": self.port})

    async def launch_server(self) -> None:
        """Bind, then serve until cancelled, then drain.

        Errors: ``AlreadyInUse``, ``BindRefused``, ``ConfigurationError``.
        """
        if self._server is not None:
            raise AlreadyInUse("This message queue server runs already.")
        try:
            self._server = server = self._bound()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._decided.set()
        try:
            with served_here(self.as_config().base_url, self._takes.own):
                await server.serve()
        finally:
            self._server = None
            self._decided.clear()

    def _bound(self) -> AsgiServer:
        if self.port is None:
            raise ConfigurationError("There is no port to listen on: set port or internal_port.")
        limit = self.config.max_message + OVERHEAD
        tokens = self._takes = part_tokens() if self._tokens is None else self._tokens
        host = self.config.internal_host or self.config.host
        sock = bind(host, self.port, tokens=tokens.configured)
        return AsgiServer(
            Guard(BodyLimit(self.app, limit), Access.to(tokens, host, self.config.host), deploy_alone),
            sock,
            ws_max_size=limit,
            ws_ping_interval=PING_INTERVAL,
            ws_ping_timeout=PING_TIMEOUT,
        )

    async def started(self) -> None:
        """Wait until the server answers. Errors: whatever ``launch_server`` failed with."""
        await self._decided.wait()
        if self._server is None:
            assert self._failure is not None
            raise self._failure
        await self._server.ready()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.launch_server(), name="simple message queue server")
        try:
            await self.started()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> Any:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
