"""What passes between a message queue and those who consume from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from arriero.types.messages import QueueMessage


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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up. ``body`` is what arrived, readable or not."""

    topic: str
    body: bytes
    reason: str


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
    """A stream of deliveries. Closing it gives back what was delivered and not acknowledged, and ends the stream, also
    for one who waits on it. Closing it again does nothing.
    """

    def __aiter__(self) -> AsyncIterator[Delivery]: ...

    async def __anext__(self) -> Delivery: ...

    async def aclose(self) -> None: ...


class Consumer(Protocol):
    """The documented consumer, as far as a queue uses it."""

    @property
    def id_(self) -> str: ...

    @property
    def message_type(self) -> str: ...

    def process_message(self, message: QueueMessage) -> Awaitable[Any]: ...
