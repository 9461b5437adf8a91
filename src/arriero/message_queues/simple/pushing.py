"""Consumers in other processes that registered a URL: their messages are posted to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from arriero.message_queues.consumers import RemoteMessageConsumer, RemoteMessageConsumerDef
from arriero.message_queues.http import ClientOptions, HttpPool
from arriero.message_queues.memory import MemoryMessageQueue
from arriero.message_queues.registrations import Registration
from arriero.types.errors import ConfigurationError, Conflict, InvalidInput, NotFound, QueueUnavailable
from arriero.types.loopback import is_loopback
from arriero.types.messages import QueueMessage

logger = logging.getLogger(__name__)

#: Consumers that may be registered at once.
MOST = 1_000


class Pushers:
    """The consumers that are registered by URL, and a loop for each while the server runs.

    A message is posted at least once; an answer other than 2xx is a failure, after which it comes again later. What
    registers may be anybody, so messages are posted to this machine alone, and to ``hosts`` by their very names.
    """

    def __init__(self, queue: MemoryMessageQueue, hosts: Sequence[str] = ()) -> None:
        self._queue = queue
        self._hosts = frozenset(host.lower() for host in hosts)
        self._pool = HttpPool()
        self._pushers: dict[tuple[str, str], _Pusher] = {}
        self._group: asyncio.TaskGroup | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loops meanwhile."""
        async with asyncio.TaskGroup() as self._group:
            for pusher in self._pushers.values():
                pusher.start(self._group)
            yield
            for pusher in self._pushers.values():
                pusher.cancel()
        self._group = None
        await self._pool.aclose()

    def add(self, definition: RemoteMessageConsumerDef) -> None:
        """Register a consumer. Errors: ``Conflict``, ``InvalidInput``, ``ConfigurationError``, ``QueueUnavailable``."""
        self._check(definition)
        for other in self.of(definition.message_type):
            if other.id_ == definition.id_ or other.url == definition.url:
                raise Conflict(f"A consumer of {definition.message_type} with this id or URL is registered already.")
        if len(self._pushers) >= MOST:
            raise QueueUnavailable(f"{MOST} consumers are registered, and no more are taken.")
        pusher = _Pusher(definition, self._queue, self._pool)
        self._pushers[definition.message_type, definition.id_] = pusher
        if self._group is not None:
            pusher.start(self._group)

    async def remove(self, message_type: str, id_: str) -> None:
        """Deregister a consumer; the message that is being posted is its last. Errors: ``NotFound``."""
        pusher = self._pushers.pop((message_type, id_), None)
        if pusher is None:
            raise NotFound(f"No consumer {id_} of {message_type} is registered.")
        await pusher.registration.end()

    def of(self, message_type: str) -> list[RemoteMessageConsumerDef]:
        """The consumers of a type, in the order in which they registered."""
        return [pusher.definition for key, pusher in self._pushers.items() if key[0] == message_type]

    def _check(self, definition: RemoteMessageConsumerDef) -> None:
        scheme, host = _place(definition.url)
        if scheme not in {"http", "https"} or not host:
            raise InvalidInput(
                f"url is {definition.url!r}; a consumer's URL begins with http:// or https:// and a host."
            )
        # By name, and not by what it resolves to: that may be another address when a message is posted.
        if not is_loopback(host) and host not in self._hosts:
            raise ConfigurationError(
                f"Messages are not posted to {host}: it is neither localhost nor a loopback address, nor named by "
                "push_hosts of SimpleMessageQueueConfig (SIMPLE_MESSAGE_QUEUE_PUSH_HOSTS)."
            )
        ClientOptions.read(definition.client_kwargs)


def _place(url: str) -> tuple[str, str]:
    """Scheme and host as the client will read them, which uses the same parser; nothing for what it cannot read."""
    from yarl import URL

    try:
        address = URL(url)
    except ValueError:
        return "", ""
    return address.scheme, address.host or ""


class _Pusher:
    def __init__(self, definition: RemoteMessageConsumerDef, queue: MemoryMessageQueue, pool: HttpPool) -> None:
        queue.topic(definition.message_type)
        shared = None if definition.client_kwargs else pool
        self.definition = definition
        self._consumer = RemoteMessageConsumer(**definition.model_dump(), client=shared)
        self.registration = Registration(self, definition.message_type, queue.subscribe, queue.retry)
        self._task: asyncio.Task[None] | None = None

    @property
    def id_(self) -> str:
        return self.definition.id_

    @property
    def message_type(self) -> str:
        return self.definition.message_type

    async def process_message(self, message: QueueMessage) -> Any:
        await self._consumer.post(message)

    def start(self, group: asyncio.TaskGroup) -> None:
        self._task = group.create_task(self._run(), name=f"push to {self.definition.url}")

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self.registration.run()
        except Exception:
            logger.exception("The loop of consumer %s ended", self.definition.url)
        finally:
            await self._consumer.aclose()
