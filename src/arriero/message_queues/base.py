"""The port of the message queue, and the documented face that every queue has on top of it.

A queue only rings: what it carries may arrive late, twice or in another order, and the system stays right. What was
published without ``transient`` is kept until it is acknowledged, as well as the broker can.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel

from arriero.types.messages import QueueMessage, QueueMessageStats

PublishCallback = Callable[..., Any]
StartConsumingCallable = Callable[..., Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a queue's broker can do; the documentation's table is made from it."""

    #: Unacknowledged messages survive a restart of the broker.
    survives_restart: bool
    #: ``publish`` returns only when the broker has the message.
    confirms: bool
    #: ``nack(delay)`` really waits.
    delays: bool
    #: Rejected messages are kept for a look.
    dead_letters: bool
    #: ``depth`` is exact.
    depth: bool


class Delivery(Protocol):
    """One arrival of a message at a consumer. Exactly one of the three is called, once; a second call does nothing."""

    @property
    def message(self) -> QueueMessage: ...

    async def ack(self) -> None:
        """It is done with."""

    async def nack(self, delay: float = 0.0) -> None:
        """Deliver it again, after ``delay`` seconds where the broker can."""

    async def reject(self, reason: str) -> None:
        """It can never be handled: dead-letter it with the reason."""


class Subscription(Protocol):
    """A stream of deliveries. Closing it gives back what was delivered and not acknowledged."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...

    async def __anext__(self) -> Delivery: ...

    async def aclose(self) -> None: ...


class Consumer(Protocol):
    """The documented consumer, as far as a queue uses it."""

    id_: str
    message_type: str

    def process_message(self, message: QueueMessage) -> Awaitable[Any]: ...


class MessageQueue(ABC):
    """A queue with named topics and competing consumers.

    Guarantees of every implementation, each with a case in ``arriero.testing``: consumers of one topic compete; at
    most ``prefetch`` deliveries are open on a subscription; what a dead or closed consumer held is delivered again;
    a message that cannot be read is dead-lettered with its reason, never dropped and never repeated for ever.

    Errors: ``QueueUnavailable``.
    """

    capabilities: ClassVar[Capabilities]

    @abstractmethod
    async def send(self, message: QueueMessage, topic: str, *, transient: bool = False) -> None:
        """Put a message on a topic. A ``transient`` one (a ring) may be lost with the broker, and need not be confirmed."""

    @abstractmethod
    async def subscribe(self, topic: str, prefetch: int = 1) -> Subscription:
        """Compete for the topic's messages; returns when the subscription stands."""

    @abstractmethod
    async def depth(self, topic: str) -> int:
        """How many messages wait on the topic, those in delivery not counted."""

    @abstractmethod
    def as_config(self) -> BaseModel:
        """The configuration from which another process makes a queue on the same broker."""

    async def open(self) -> Self:
        """Connect. Other methods connect by themselves when needed."""
        return self

    async def aclose(self) -> None:
        """Close connections and subscriptions."""

    async def cleanup(self, *args: Any, **kwargs: Any) -> None:
        """The documented name of :meth:`aclose`."""
        await self.aclose()

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

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
