"""What goes wrong in a simulation, and when: all of it out of one seed."""

from __future__ import annotations

import asyncio
import random

from arriero.message_queues.encoding import encode_message
from arriero.message_queues.memory import MemoryMessageQueue
from arriero.types.errors import StoreUnavailable
from arriero.types.messages import QueueMessage

#: Seconds that a store, a network and a queue take at most, on a good day.
STORE, NETWORK, QUEUE = 0.02, 0.03, 2.0


class Chance:
    """A source of chance. While it is ``calm`` nothing fails; how long things take is by chance at all times."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  # a simulation is no secret
        self.calm = False
        #: How many of a hundred commits fail, half of them after they took effect.
        self.failing = 0.0
        self._now = 0

    def happens(self, of_a_hundred: float) -> bool:
        """Whether something happens that does so often."""
        return self.random.random() * 100 < of_a_hundred

    def delay(self) -> float:
        """How long a message of a link is under way."""
        return self.random.random() * NETWORK if self.happens(40) else 0.0

    # As the source of ids

    def milliseconds(self) -> int:
        """A time that grows with each look."""
        self._now += 1
        return self._now

    def take(self, count: int) -> bytes:
        """Random bytes."""
        return self.random.randbytes(count)

    # As a store's nature

    async def reading(self) -> None:
        """A look into the store."""
        if self.happens(10):
            await asyncio.sleep(self.random.random() * STORE)

    async def before(self) -> None:
        """What comes before a commit."""
        if self.happens(60):
            await asyncio.sleep(self.random.random() * STORE)
        if not self.calm and self.happens(self.failing / 2):
            raise StoreUnavailable("the simulated disk took nothing")

    async def after(self) -> None:
        """What comes after one."""
        if self.happens(20):
            await asyncio.sleep(self.random.random() * STORE)
        if not self.calm and self.happens(self.failing / 2):
            raise StoreUnavailable("the simulated disk took it, and did not say so")


class ChancyQueue(MemoryMessageQueue):
    """Rings are lost, doubled and late."""

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        self._chance = chance

    async def send(self, message: QueueMessage, topic: str, *, transient: bool = False) -> None:
        chance = self._chance
        if not transient or chance.calm:
            await super().send(message, topic, transient=transient)
            return
        body = encode_message(message)
        copies = 0 if chance.happens(15) else 2 if chance.happens(15) else 1
        for _ in range(copies):
            late = chance.random.random() * QUEUE if chance.happens(25) else 0.0
            asyncio.get_running_loop().call_later(late, self._put, body, topic)

    def _put(self, body: bytes, topic: str) -> None:
        self.put(body, topic, transient=True)
