"""The slots of a worker: how many items run at once, and who gets the next one."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """Taken by items that run and by claims under way. An item that waits gives its slot up, and is served before any
    new claim when it wants one again.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.used = 0
        self.asked = 0
        self._crossed = False
        self._wanted: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """Slots that a claim may ask for."""
        return 0 if self._wanted else max(0, self.count - self.used - self.asked)

    @property
    def room(self) -> int:
        """Slots in which nothing runs, those included that a claim has asked for."""
        return max(0, self.count - self.used)

    @property
    def vacant(self) -> bool:
        """Whether what came unasked may begin: nothing runs in some slot, and no item that waited wants it."""
        return not self._wanted and self.used < self.count

    @property
    def full(self) -> bool:
        return self.used >= self.count

    @property
    def doubtful(self) -> bool:
        """Whether the control plane may know of fewer free slots than there are, or of more work than it was asked for.

        It takes a claim to be for every free slot, but one that crosses another is not for those of the other; and it
        may have answered a claim before the ring that was heard meanwhile. A claim for all settles both.
        """
        return self._crossed and not self.asked

    def ask(self, count: int) -> None:
        """So many slots are asked for with a report."""
        self.asked += count

    def claim(self, count: int) -> None:
        """All slots that are free, so many, are asked for by a claim."""
        self._crossed = self.asked > 0
        self.asked += count

    def rung(self) -> None:
        """A ring was heard while all free slots were asked for."""
        self._crossed = True

    def answered(self, count: int, granted: int) -> None:
        """The claim for so many slots brought so many items, which run now."""
        self.asked -= count
        self.used += granted
        self._serve()

    def give_back(self) -> None:
        """An item needs its slot no more."""
        self.used -= 1
        self._serve()

    def seize(self) -> None:
        """An item takes a slot at once, even one too many: it cannot wait."""
        self.used += 1

    async def regain(self) -> None:
        """Get a slot for an item that gave its own up: now, or as soon as one is free."""
        if self.free:
            self.used += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._wanted.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give_back()
            elif place in self._wanted:  # unless it was passed over already
                self._wanted.remove(place)
            raise

    def _serve(self) -> None:
        while self._wanted and self.used + self.asked < self.count:
            place = self._wanted.popleft()
            if not place.done():
                self.used += 1
                place.set_result(None)
