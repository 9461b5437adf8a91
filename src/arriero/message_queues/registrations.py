"""Documented consumers at work: each takes a topic's messages, one after the other, until it is deregistered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from arriero.message_queues.deliveries import Consumer, Delivery, Subscription
from arriero.types.errors import Unavailable
from arriero.types.messages import QueueMessage

logger = logging.getLogger(__name__)

Subscribe = Callable[[str], Awaitable[Subscription]]

#: How many messages a consumer remembers the failures of.
REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a consumer is given a message that it fails on, and after which delays, in seconds."""

    attempts: int = 10
    first: float = 0.1
    factor: float = 2.0
    longest: float = 30.0

    def delay(self, failures: int) -> float:
        """How long to wait after that many failures."""
        return float(min(self.longest, self.first * self.factor ** min(failures - 1, 64)))


class Registration:
    """One consumer on one topic.

    A message is acknowledged after the consumer processed it, and given back with a growing delay when that failed,
    until it is rejected with the reason. A consumer that is unreachable leaves the topic to the others for a while.
    """

    def __init__(self, consumer: Consumer, topic: str, subscribe: Subscribe, retry: Retry) -> None:
        self.consumer = consumer
        self.topic = topic
        self._subscribe = subscribe
        self._retry = retry
        self._subscription: Subscription | None = None
        self._busy = False
        self._runner: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._absences = 0

    async def run(self) -> None:
        """Hand messages to the consumer until cancelled or ended; a second runner waits for the first."""
        if self._runner is not None and not self._runner.done():
            await asyncio.wait({self._runner})
            return
        self._runner = asyncio.current_task()
        try:
            while not self._ended.is_set() and await self._consume():
                await self._pause()
        finally:
            self._runner = None

    async def end(self) -> None:
        """Stop after the message in work, or at once when there is none."""
        self._ended.set()
        if self._subscription is not None and not self._busy:
            await self._subscription.aclose()

    async def _consume(self) -> bool:
        """Consume until the stream ends or something is unreachable; says whether to go on afterwards."""
        try:
            self._subscription = await self._subscribe(self.topic)
            async for delivery in self._subscription:
                self._busy = True
                await self._settle(delivery)
                self._busy = False
                if self._ended.is_set() or self._absences:
                    break
        except Unavailable as error:
            self._absences += 1
            logger.warning("Consumer %s lost its queue and tries again: %s", self.consumer.id_, error)
        finally:
            await self._leave()
        return self._absences > 0

    async def _leave(self) -> None:
        subscription, self._subscription, self._busy = self._subscription, None, False
        if subscription is not None:
            await subscription.aclose()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._retry.delay(self._absences)):
                await self._ended.wait()

    async def _settle(self, delivery: Delivery) -> None:
        message = delivery.message
        try:
            await self.consumer.process_message(message)
        except Exception as error:  # noqa: BLE001 a consumer is the user's code: its failure is the message's
            self._absences = self._absences + 1 if isinstance(error, Unavailable) else 0
            await self._give_back(delivery, message, error)
        else:
            self._absences = 0
            self._failures.pop(message.id_, None)
            await delivery.ack()

    async def _give_back(self, delivery: Delivery, message: QueueMessage, error: Exception) -> None:
        failures = self._failures.pop(message.id_, 0) + 1
        if failures >= self._retry.attempts:
            logger.error("Message %s on %s is given up", message.id_, self.topic, exc_info=error)
            await delivery.reject(f"{type(error).__name__}: {error}")
            return
        logger.warning("Message %s on %s failed %d times: %r", message.id_, self.topic, failures, error)
        self._failures[message.id_] = failures
        if len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)
        await delivery.nack(self._retry.delay(failures))
