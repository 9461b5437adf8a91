"""The port of the message queue, and the documented face that every queue has on top of it.

A queue only rings: what it carries may arrive late, twice or in another order, and the system stays right. What was
published without ``transient`` is kept until it is acknowledged, as well as the broker can.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from arriero.message_queues.deliveries import Capabilities, Consumer, DeadLetter, Delivery, Subscription
from arriero.message_queues.inbox import Inbox
from arriero.message_queues.registrations import Registration, Retry
from arriero.types.errors import ConfigurationError, NotFound
from arriero.types.messages import QueueMessage, QueueMessageStats

__all__ = [
    "LONGEST_TOPIC",
    "AbstractMessageQueue",
    "AsyncProcessMessageCallable",
    "BaseMessageQueue",
    "Capabilities",
    "Consumer",
    "DeadLetter",
    "Delivery",
    "MessageProcessor",
    "MessageQueue",
    "PublishCallback",
    "Retry",
    "StartConsumingCallable",
    "Subscription",
]

#: Longest name of a topic, in characters.
LONGEST_TOPIC = 1_000

PublishCallback = Callable[..., Any]
StartConsumingCallable = Callable[..., Coroutine[Any, Any, None]]
#: What takes a message: ``process_message`` of a consumer, for instance.
AsyncProcessMessageCallable = Callable[..., Coroutine[Any, Any, Any]]
MessageProcessor = AsyncProcessMessageCallable


class MessageQueue(ABC):
    """A queue with named topics and competing consumers.

    Guarantees of every implementation, each with a case in ``arriero.testing``: consumers of one topic compete; at
    most ``prefetch`` deliveries are open on a subscription; what a dead or closed consumer held is delivered again;
    a message that cannot be read is dead-lettered with its reason, never dropped and never repeated for ever.

    Errors: ``QueueUnavailable``; ``InvalidInput`` for a message that is not JSON, ``PayloadTooLarge`` for one that is
    larger than the limit.
    """

    capabilities: ClassVar[Capabilities]
    #: How registered consumers are given a message again that they failed on.
    retry: Retry = Retry()

    @abstractmethod
    async def send(self, message: QueueMessage, topic: str, *, transient: bool = False) -> None:
        """Put a message on a topic. A ``transient`` one, a ring, may be lost with the broker; none confirms it."""

    @abstractmethod
    async def subscribe(self, topic: str, prefetch: int = 1) -> Subscription:
        """Compete for the topic's messages; returns when the subscription stands."""

    @abstractmethod
    async def depth(self, topic: str) -> int:
        """How many messages wait on the topic, those in delivery not counted."""

    @abstractmethod
    def as_config(self) -> BaseModel:
        """The configuration from which another process makes a queue on the same broker."""

    async def dead_letters(self, topic: str) -> list[DeadLetter]:
        """The last messages that were given up on the topic, oldest first, where the broker keeps them."""
        return []

    async def open(self) -> Self:
        """Connect. Other methods connect by themselves when needed."""
        return self

    async def aclose(self) -> None:
        """Close connections and subscriptions."""

    async def publish(
        self,
        message: QueueMessage,
        callback: PublishCallback | str | None = None,
        topic: str | PublishCallback | None = None,
        *,
        transient: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Stamp the message and send it to ``topic`` (its ``type`` when there is none), then call ``callback``.

        Both documented orders work: ``publish(message, callback, topic)`` and ``publish(message, topic, callback)``.
        """
        words = [word for word in (callback, topic) if isinstance(word, str)]
        calls = [call for call in (callback, topic) if call is not None and not isinstance(call, str)]
        message.stats.publish_time = QueueMessageStats.timestamp_str()
        await self.send(message, words[0] if words else message.type, transient=transient)
        for call in calls:
            answer = call(message, **kwargs)
            if inspect.isawaitable(answer):
                await answer

    async def register_consumer(self, consumer: Consumer, topic: str | None = None) -> StartConsumingCallable:
        """Register for ``topic`` (the consumer's ``message_type`` when there is none).

        Gives a coroutine function: awaited, it hands the topic's messages to ``consumer.process_message``, one after
        the other, until it is cancelled or the consumer deregistered. A message is acknowledged after success; after a
        failure it comes again later, up to ``retry.attempts`` times, and is then rejected with the reason.

        Errors: ``ConfigurationError`` when a consumer of this id is registered for the topic already.
        """
        name = topic or consumer.message_type
        if (name, consumer.id_) in self._registered:
            raise ConfigurationError(
                f"Consumer {consumer.id_} is registered for topic {name} already. Deregister it first, or give the "
                "other one an id of its own."
            )
        registration = Registration(consumer, name, self.subscribe, self.retry)
        self._registered[name, consumer.id_] = registration
        for newcomers in self._newcomers:
            newcomers.put(registration)
        return registration.run

    async def deregister_consumer(self, consumer: Consumer) -> Any:
        """End the consumer's loop after the message in work; its topics go on to the others.

        Errors: ``NotFound`` when no consumer of this id is registered.
        """
        keys = [key for key in self._registered if key[1] == consumer.id_]
        if not keys:
            raise NotFound(f"No consumer of id {consumer.id_} is registered for {consumer.message_type}.")
        for key in keys:
            await self._registered.pop(key).end()

    async def get_consumers(self, message_type: str) -> Sequence[Consumer]:
        """The consumers that are registered for a message type or topic."""
        found = [one for one in self._registered.values() if message_type in {one.topic, one.consumer.message_type}]
        return [one.consumer for one in found]

    async def processing_loop(self) -> None:
        """Run every registered consumer, and those that are registered later, until cancelled."""
        newcomers: Inbox[Registration] = Inbox()
        for registration in self._registered.values():
            newcomers.put(registration)
        self._newcomers.append(newcomers)
        try:
            async with asyncio.TaskGroup() as group:
                async for registration in newcomers:
                    group.create_task(registration.run(), name=f"consumer {registration.consumer.id_}")
        finally:
            self._newcomers.remove(newcomers)

    async def launch_local(self) -> asyncio.Task[None]:
        """Start :meth:`processing_loop` in a task, which ``cleanup_local`` ends."""
        task = asyncio.create_task(self.processing_loop(), name=f"processing loop of {type(self).__name__}")
        self._launched.add(task)
        task.add_done_callback(self._launched.discard)
        return task

    async def launch_server(self) -> None:
        """Serve this queue to others until cancelled. Errors: ``ConfigurationError`` when its broker does that."""
        raise ConfigurationError(f"{type(self).__name__} is served by its broker: start that, and connect to it.")

    async def cleanup_local(self, message_types: Sequence[str] | None = None, *args: Any, **kwargs: Any) -> None:
        """End what ``launch_local`` started, and deregister the consumers of these types (of all, when None)."""
        launched = list(self._launched)
        for task in launched:
            task.cancel()
        if launched:
            await asyncio.wait(launched)
        for key in [key for key in self._registered if message_types is None or key[0] in message_types]:
            await self._registered.pop(key).end()

    async def cleanup(self, *args: Any, **kwargs: Any) -> None:
        """End the local consumers, then :meth:`aclose`."""
        await self.cleanup_local()
        await self.aclose()

    @property
    def client(self) -> MessageQueue:
        """A queue through which other processes reach the same topics."""
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cleanup()

    # Made on first use, so that a backend has its own constructor to itself.

    @functools.cached_property
    def _registered(self) -> dict[tuple[str, str], Registration]:
        return {}

    @functools.cached_property
    def _newcomers(self) -> list[Inbox[Registration]]:
        return []

    @functools.cached_property
    def _launched(self) -> set[asyncio.Task[None]]:
        return set()


#: Its documented names.
AbstractMessageQueue = MessageQueue
BaseMessageQueue = MessageQueue
