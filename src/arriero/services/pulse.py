"""The pulse of a worker: by it, a process that was stopped for a while knows that it stood still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

#: Beats in the length of a lease.
BEATS = 8


class Pulse:
    """Beats while the event loop turns. After a pause of half a lease, what arrives may be long out of date.

    ``on_gap`` is told once of each such pause; until :meth:`sure` is called, ``doubtful`` says so, and nothing more is
    to be begun.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_gap: Callable[[], object]) -> None:
        self._loop = loop
        self._on_gap = on_gap
        self._lease = 0.0
        self._last = 0.0
        self._doubtful = False
        self._settled = asyncio.Event()
        # The time of uvloop is that of its last turn: what was to be done in this turn would not see the pause.
        self._now = time.monotonic if type(loop).__module__.startswith("uvloop") else loop.time
        self._timer: asyncio.TimerHandle | None = None

    def start(self, lease: float) -> None:
        """Beat, for leases of so many seconds; 0 is for a worker that needs none."""
        self.stop()
        self._lease, self._last = lease, self._now()
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

    def doubt(self) -> Awaitable[object] | None:
        """What to wait for before something is begun; None while there is no doubt."""
        return self._settled.wait() if self.doubtful else None

    def sure(self) -> None:
        """Whatever was under way when it stood still has arrived."""
        self._doubtful = False
        self._settled.set()

    def _beat(self) -> None:
        self._look()
        self._last = self._now()
        self._timer = self._loop.call_later(self._lease / BEATS, self._beat)

    def _look(self) -> None:
        if self._timer is not None and not self._doubtful and self._now() - self._last > self._lease / 2:
            self._doubtful, self._last = True, self._now()
            self._settled.clear()
            self._on_gap()
