"""Topics in memory: who gets which message, who holds what, and what happens to what is given back.

Nothing here waits: a topic calls ``deliver`` of an outlet, and ``Later`` for delays.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from arriero.message_queues.deliveries import DeadLetter

_tags = itertools.count(1)

MIB = 1024 * 1024
#: The longest delay of a nack, in seconds.
LONGEST_DELAY = 86_400.0
#: How much of a reason is kept, in characters.
REASON = 2_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a queue in memory takes at most. Sizes are in bytes."""

    #: Messages that wait on one topic, and the bytes of those that wait or are in delivery.
    depth: int = 100_000
    topic_bytes: int = 256 * MIB
    message_bytes: int = 16 * MIB
    topics: int = 10_000
    prefetch: int = 10_000
    dead_letters: int = 1_000
    dead_letter_bytes: int = 64 * MIB


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]
Deliver = Callable[[int, bytes], None]


class DeadLetters:
    """The last messages that were given up, within the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._letters: deque[DeadLetter] = deque()
        self._bytes = 0

    def add(self, topic: str, body: bytes, reason: str) -> None:
        """Keep one, and forget the oldest ones beyond the limits."""
        self._letters.append(DeadLetter(topic, body, reason[:REASON]))
        self._bytes += len(body)
        while len(self._letters) > self._limits.dead_letters or self._bytes > self._limits.dead_letter_bytes:
            self._bytes -= len(self._letters.popleft().body)

    def of(self, topic: str) -> list[DeadLetter]:
        """Those of one topic, oldest first."""
        return [letter for letter in self._letters if letter.topic == topic]


class Topic:
    """Messages that wait, and the outlets that compete for them, served in turn."""

    def __init__(self, name: str, limits: Limits, later: Later, letters: DeadLetters) -> None:
        self.name = name
        self._limits = limits
        self._later = later
        self._letters = letters
        self._ready: deque[bytes] = deque()
        self._delayed: dict[int, tuple[Timer, bytes]] = {}
        self._bytes = 0
        self._outlets: set[Outlet] = set()
        #: Outlets with room, each once.
        self._free: deque[Outlet] = deque()

    @property
    def depth(self) -> int:
        """How many messages wait, for an outlet or for their delay."""
        return len(self._ready) + len(self._delayed)

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be missed if the topic were forgotten."""
        return not (self._ready or self._delayed or self._outlets)

    def put(self, body: bytes) -> bool:
        """Take a message, or say that the topic is full."""
        if self.depth >= self._limits.depth or self._bytes + len(body) > self._limits.topic_bytes:
            return False
        self._bytes += len(body)
        self._ready.append(body)
        self._dispatch()
        return True

    def pop(self) -> bytes | None:
        """Take the next message out for good."""
        if not self._ready:
            return None
        body = self._ready.popleft()
        self._bytes -= len(body)
        return body

    def attach(self, prefetch: int, deliver: Deliver) -> Outlet:
        """Compete for the messages from now on."""
        outlet = Outlet(self, prefetch, deliver)
        self._outlets.add(outlet)
        self._free.append(outlet)
        self._dispatch()
        return outlet

    def wake(self) -> None:
        """Make every delayed message ready now."""
        for timer, body in self._delayed.values():
            timer.cancel()
            self._ready.append(body)
        self._delayed.clear()
        self._dispatch()

    def _dispatch(self) -> None:
        while self._ready and self._free:
            outlet = self._free.popleft()
            outlet.give(self._ready.popleft())
            if outlet.has_room:
                self._free.append(outlet)

    def detach(self, outlet: Outlet, held: list[bytes]) -> None:
        """End an outlet; what it held goes in front, in its order."""
        self._outlets.discard(outlet)
        if outlet in self._free:
            self._free.remove(outlet)
        self._ready.extendleft(reversed(held))
        self._dispatch()

    def acked(self, body: bytes) -> None:
        """Forget a message that is done with."""
        self._bytes -= len(body)

    def buried(self, body: bytes, reason: str) -> None:
        """Dead-letter a message."""
        self._bytes -= len(body)
        self._letters.add(self.name, body, reason)

    def returned(self, body: bytes, delay: float) -> None:
        """Put a message at the end, now or later."""
        if delay <= 0:
            self._ready.append(body)
            return
        number = next(_tags)

        def due() -> None:
            self._ready.append(self._delayed.pop(number)[1])
            self._dispatch()

        self._delayed[number] = self._later(min(delay, LONGEST_DELAY), due), body

    def freed(self, outlet: Outlet, *, was_full: bool) -> None:
        """Go on after an outlet has settled one message."""
        if was_full:
            self._free.append(outlet)
        self._dispatch()


class Outlet:
    """One consumer's end of a topic. It holds what it was given and did not settle, ``prefetch`` messages at most."""

    __slots__ = ("_deliver", "_held", "_prefetch", "_topic")

    def __init__(self, topic: Topic, prefetch: int, deliver: Deliver) -> None:
        self._topic = topic
        self._prefetch = prefetch
        self._deliver = deliver
        self._held: dict[int, bytes] = {}

    @property
    def has_room(self) -> bool:
        """Whether it takes one more message."""
        return len(self._held) < self._prefetch

    def give(self, body: bytes) -> None:
        """Hold a message and deliver it."""
        tag = next(_tags)
        self._held[tag] = body
        self._deliver(tag, body)

    def ack(self, tag: int) -> None:
        """Settle a message for good. Here and below a tag that is not held is passed over."""
        was_full = not self.has_room
        if (body := self._held.pop(tag, None)) is not None:
            self._topic.acked(body)
            self._topic.freed(self, was_full=was_full)

    def nack(self, tag: int, delay: float = 0.0) -> None:
        """Put a message back at the end of the topic, after a delay in seconds."""
        was_full = not self.has_room
        if (body := self._held.pop(tag, None)) is not None:
            self._topic.returned(body, delay)
            self._topic.freed(self, was_full=was_full)

    def reject(self, tag: int, reason: str) -> None:
        """Dead-letter a message."""
        was_full = not self.has_room
        if (body := self._held.pop(tag, None)) is not None:
            self._topic.buried(body, reason)
            self._topic.freed(self, was_full=was_full)

    def close(self) -> None:
        """Give back what is held, and take nothing more."""
        held, self._held = list(self._held.values()), {}
        self._topic.detach(self, held)
