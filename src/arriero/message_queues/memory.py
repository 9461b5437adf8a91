"""The queue within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, Field

from arriero.message_queues.base import LONGEST_TOPIC, MessageQueue
from arriero.message_queues.deliveries import Capabilities, DeadLetter
from arriero.message_queues.encoding import decode_message, encode_message
from arriero.message_queues.inbox import Inbox
from arriero.message_queues.topics import DeadLetters, Deliver, Limits, Outlet, Timer, Topic
from arriero.types.errors import InvalidInput, PayloadTooLarge, QueueUnavailable
from arriero.types.messages import QueueMessage

#: Seconds after which a publisher may find room in a full topic.
FULL_RETRY = 1.0


class MemoryMessageQueueConfig(BaseModel):
    """A queue within the process that makes it; no other process reaches it."""

    type: Literal["memory"] = Field(default="memory", exclude=True)


class TopicFull(QueueUnavailable):
    """The topic takes no more messages now. Start more consumers, or publish later."""

    status = 429


class MemoryMessageQueue(MessageQueue):
    """Topics in the memory of this process, on one event loop. Messages are copied, as any broker copies them.

    A topic that is full refuses what is published with ``TopicFull``, a ``QueueUnavailable``, and drops what is
    transient.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        survives_restart=False, confirms=True, delays=True, dead_letters=True, depth=True
    )

    def __init__(self, config: MemoryMessageQueueConfig | None = None, *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._config = config or MemoryMessageQueueConfig()
        self._topics: dict[str, Topic] = {}
        self._letters = DeadLetters(self.limits)
        self._subscriptions: set[MemorySubscription] = set()

    async def send(self, message: QueueMessage, topic: str, *, transient: bool = False) -> None:
        self.put(encode_message(message), topic, transient=transient)

    def put(self, body: bytes, topic: str, *, transient: bool = False) -> None:
        """Put the JSON of a message on a topic."""
        if len(body) > self.limits.message_bytes:
            raise PayloadTooLarge(
                f"A message of {len(body)} bytes for topic {topic}; the limit (max_message) is "
                f"{self.limits.message_bytes}."
            )
        if not self.topic(topic).put(body) and not transient:
            raise TopicFull(
                f"Topic {topic} is full: {self.limits.depth} messages (max_depth) or {self.limits.topic_bytes} bytes "
                "wait for its consumers. Start more of them, or publish later.",
                retry_after=FULL_RETRY,
            )

    async def subscribe(self, topic: str, prefetch: int = 1) -> MemorySubscription:
        subscription = MemorySubscription(self, topic, prefetch, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    def attach(self, topic: str, prefetch: int, deliver: Deliver) -> Outlet:
        """Compete for a topic's messages with a function that is called with each, and its tag."""
        if not 1 <= prefetch <= self.limits.prefetch:
            raise InvalidInput(f"prefetch is {prefetch}; it must be from 1 to {self.limits.prefetch}.")
        return self.topic(topic).attach(prefetch, deliver)

    async def depth(self, topic: str) -> int:
        return self.depth_of(topic)

    def depth_of(self, topic: str) -> int:
        """How many messages wait on a topic."""
        return self._topics[topic].depth if topic in self._topics else 0

    async def dead_letters(self, topic: str) -> list[DeadLetter]:
        return self.dead_letters_of(topic)

    def dead_letters_of(self, topic: str) -> list[DeadLetter]:
        """The last messages that were given up on a topic, oldest first."""
        return self._letters.of(topic)

    def bury(self, topic: str, body: bytes, reason: str) -> None:
        """Dead-letter what arrived for a topic and could not be read."""
        self._letters.add(topic, body, reason)

    def has_topic(self, name: str) -> bool:
        """Whether somebody made the topic, published to it or subscribed."""
        return name in self._topics

    def topic(self, name: str) -> Topic:
        """The topic of that name, made if there is none; where there are too many, idle ones make room."""
        found = self._topics.get(name)
        if found is None:
            if not 1 <= len(name) <= LONGEST_TOPIC:
                raise InvalidInput(f"A topic's name has from 1 to {LONGEST_TOPIC} characters.")
            if len(self._topics) >= self.limits.topics:
                self._forget_idle_topics()
            found = self._topics[name] = Topic(name, self.limits, _later, self._letters)
        return found

    def _forget_idle_topics(self) -> None:
        self._topics = {name: topic for name, topic in self._topics.items() if not topic.is_idle}
        if len(self._topics) >= self.limits.topics:
            raise QueueUnavailable(f"There are {self.limits.topics} topics in use, and no more are made.")

    def as_config(self) -> MemoryMessageQueueConfig:
        return self._config

    async def aclose(self) -> None:
        for subscription in list(self._subscriptions):
            await subscription.aclose()
        for topic in self._topics.values():
            topic.wake()


def _later(delay: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay, call)


class MemorySubscription:
    """A subscription on a queue in memory."""

    def __init__(
        self, queue: MemoryMessageQueue, topic: str, prefetch: int, closed: Callable[[MemorySubscription], None]
    ) -> None:
        self._inbox: Inbox[MemoryDelivery] = Inbox()
        self._closed = closed
        self._outlet = queue.attach(topic, prefetch, self._deliver)

    def _deliver(self, tag: int, body: bytes) -> None:
        self._inbox.put(MemoryDelivery(self, tag, decode_message(body)))

    @property
    def outlet(self) -> Outlet:
        """Where its deliveries are settled."""
        return self._outlet

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MemoryDelivery:
        return await self._inbox.__anext__()

    async def aclose(self) -> None:
        self._inbox.close()
        self._outlet.close()
        self._closed(self)


class MemoryDelivery:
    """One arrival; the outlet knows whether it is still open."""

    __slots__ = ("_subscription", "_tag", "message")

    def __init__(self, subscription: MemorySubscription, tag: int, message: QueueMessage) -> None:
        self.message = message
        self._subscription = subscription
        self._tag = tag

    async def ack(self) -> None:
        self._subscription.outlet.ack(self._tag)

    async def nack(self, delay: float = 0.0) -> None:
        self._subscription.outlet.nack(self._tag, delay)

    async def reject(self, reason: str) -> None:
        self._subscription.outlet.reject(self._tag, reason)
