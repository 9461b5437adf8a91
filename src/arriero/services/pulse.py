"""The pulse of a worker: by it, a process that was stopped for a while knows that it stood still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Beats in the length of a lease.
BEATS = 8


class Pulse:
    """Beats while the event loop turns. After a pause of half a lease, what arrives may be long out of date.

    ``on_gap`` is told once of each such pause; until :meth:`sure` is called, ``doubtful`` says so.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_gap: Callable[[], object]) -> None:
        self._loop = loop
        self._on_gap = on_gap
        self._lease = 0.0
        self._last = 0.0
        self._doubtful = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self, lease: float) -> None:
        """Beat, for leases of so many seconds; 0 is for a worker that needs none."""
        self.stop()
        self._lease, self._last = lease, self._loop.time()
        if lease > 0:
            self._timer = self._loop.call_later(lease / BEATS, self._beat)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def doubtful(self) -> bool:
        """Whether the process stood still, and has not made sure since that it is up to date."""
        self._look()
        return self._doubtful

    def sure(self) -> None:
        """Whatever was under way when it stood still has arrived."""
        self._doubtful = False

    def _beat(self) -> None:
        self._look()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(self._lease / BEATS, self._beat)

    def _look(self) -> None:
        if self._timer is not None and not self._doubtful and self._loop.time() - self._last > self._lease / 2:
            self._doubtful, self._last = True, self._loop.time()
            self._on_gap()
