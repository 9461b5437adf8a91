"""Turns of readers: however many may go on at once, only a few do in each turn of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

#: Readers that go on in one turn of the loop, and of those the members of one crowd while others wait.
AT_ONCE = 16
SHARE = 4
#: How many times as long as it took to wake a crowd that crowd rests, and the most, in seconds; what comes meanwhile
#: is given to it together. So the readers of a stream, however many, take a part of the time and not all of it.
REST = 4
LONGEST_REST = 0.5
#: Rests below this are none.
SHORTEST_REST = 0.002


class Crowd:
    """Those who may go on with one stream, in their order. ``on_empty`` is told for how long to rest."""

    __slots__ = ("due", "lined_up", "on_empty", "since")

    def __init__(self, on_empty: Callable[[float], None] | None = None) -> None:
        self.due: deque[asyncio.Future[None]] = deque()
        self.lined_up = False
        self.since = 0.0
        self.on_empty = on_empty

    def wake(self, most: int) -> int:
        """Let at most so many go on; gives how many did."""
        woken = 0
        while self.due and woken < most:
            waiter = self.due.popleft()
            if not waiter.done():
                waiter.set_result(None)
                woken += 1
        return woken

    def empty(self) -> None:
        """All of them have been woken."""
        self.lined_up = False
        if self.on_empty is not None:
            rest = min(LONGEST_REST, REST * (time.monotonic() - self.since))
            self.on_empty(rest if rest >= SHORTEST_REST else 0.0)


class Wakes:
    """Crowds take turns. What else the loop has to do is done between two turns, so nothing waits for a whole crowd."""

    def __init__(self) -> None:
        self._crowds: deque[Crowd] = deque()
        self._running = False

    def add(self, crowd: Crowd, waiters: Iterable[asyncio.Future[None]]) -> None:
        """These may go on: the first of them at once if nobody is before them."""
        crowd.due.extend(waiters)
        if crowd.due and not crowd.lined_up:
            crowd.lined_up, crowd.since = True, time.monotonic()
            self._crowds.append(crowd)
        if not self._running:
            self._running = True
            self._turn()

    def _turn(self) -> None:
        left = AT_ONCE
        while self._crowds and left > 0:
            crowd = self._crowds.popleft()
            left -= crowd.wake(min(left, SHARE))
            if crowd.due:
                self._crowds.append(crowd)
            else:
                crowd.empty()
        # As long as somebody was woken in this turn of the loop, whoever comes is left to the next one.
        self._running = left < AT_ONCE
        if self._running:
            asyncio.get_running_loop().call_soon(self._turn)
