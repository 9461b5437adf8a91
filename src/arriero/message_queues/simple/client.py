"""The simple message queue: within the process, or as the client of a server."""

from __future__ import annotations

import asyncio
import weakref
from functools import cached_property
from typing import Any, ClassVar

from arriero.message_queues.base import MessageQueue
from arriero.message_queues.deliveries import Capabilities, DeadLetter, Subscription
from arriero.message_queues.memory import MemoryMessageQueue
from arriero.message_queues.simple.config import SimpleMessageQueueConfig
from arriero.message_queues.simple.wire import Wire
from arriero.types.messages import QueueMessage


class SimpleMessageQueue(MessageQueue):
    """``SimpleMessageQueue()`` holds its topics in this process; with a configuration, or with any part of an address,
    it is the client of a ``SimpleMessageQueueServer``.

    As a client it keeps one connection open, and heals it: ``subscribe`` waits for the server, ``publish`` raises
    ``QueueUnavailable`` after a few seconds without one, and at once when the message is transient. What was not
    acknowledged when a connection was lost is delivered again.
    """

    capabilities: ClassVar[Capabilities] = MemoryMessageQueue.capabilities

    def __init__(
        self,
        config: SimpleMessageQueueConfig | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        internal_host: str | None = None,
        internal_port: int | None = None,
    ) -> None:
        parts: dict[str, Any] = {
            "host": host,
            "port": port,
            "internal_host": internal_host,
            "internal_port": internal_port,
        }
        address = {name: value for name, value in parts.items() if value is not None}
        in_process = config is None and not address
        self._config = config.model_copy(update=address) if config else SimpleMessageQueueConfig(**address)
        self._memory = MemoryMessageQueue(limits=self._config.limits) if in_process else None
        self._wires: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Wire] = weakref.WeakKeyDictionary()

    @property
    def _wire(self) -> Wire:
        """The connection of the running event loop."""
        loop = asyncio.get_running_loop()
        wire = self._wires.get(loop)
        if wire is None:
            for old in [old for old in self._wires if old.is_closed()]:
                del self._wires[old]
            wire = self._wires[loop] = Wire(self._config)
        return wire

    async def send(self, message: QueueMessage, topic: str, *, transient: bool = False) -> None:
        if self._memory is not None:
            await self._memory.send(message, topic, transient=transient)
        else:
            await self._wire.publish(message, topic, transient=transient)

    async def subscribe(self, topic: str, prefetch: int = 1) -> Subscription:
        return await (self._memory or self._wire).subscribe(topic, prefetch)

    async def depth(self, topic: str) -> int:
        return await (self._memory or self._wire).depth(topic)

    async def dead_letters(self, topic: str) -> list[DeadLetter]:
        return await (self._memory or self._wire).dead_letters(topic)

    def as_config(self) -> SimpleMessageQueueConfig:
        return self._config

    @cached_property
    def client(self) -> MessageQueue:
        """A client of the server that ``launch_server`` starts; this queue itself when it is one."""
        return self if self._memory is None else SimpleMessageQueue(self._config)

    async def launch_server(self) -> None:
        """Serve on the configured address until cancelled: these topics, when they are in process."""
        from arriero.message_queues.simple.server import SimpleMessageQueueServer

        await SimpleMessageQueueServer(self._config, queue=self._memory).launch_server()

    async def aclose(self) -> None:
        if self._memory is not None:
            await self._memory.aclose()
        elif wire := self._wires.pop(asyncio.get_running_loop(), None):
            await wire.aclose()


class SimpleRemoteClientMessageQueue(SimpleMessageQueue):
    """The client of the server at ``host`` and ``port``, as it was made once. The other arguments have no effect."""

    def __init__(
        self,
        base_url: str,
        host: str,
        port: int | None,
        client_kwargs: dict[str, Any] | None = None,
        client: Any = None,
        raise_exceptions: bool = False,
    ) -> None:
        super().__init__(host=host, port=port)
