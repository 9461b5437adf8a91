"""Runs that rest are left: their memory and their claim are given up until an event comes, or a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from arriero.runtime.journal import RunJournal
from arriero.types.clock import now
from arriero.types.handling import HandlerContext

#: Seconds from which on a pause before the next try of a step is worth to leave the run.
LONG = 5.0


class Leaving:
    """Leaves an item whose run has rested for a while, and whose journal says all of it."""

    def __init__(self, context: HandlerContext, journal: RunJournal, linger: float) -> None:
        self._context = context
        self._journal = journal
        self._linger = linger
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._events: Sequence[str] = ()
        self._is_at_rest = False

    def rests(self, events: Sequence[str]) -> None:
        """There is nothing to do until one of these events comes."""
        self.busy()
        self._is_at_rest = True
        self._events = events
        self._timer = asyncio.get_running_loop().call_later(self._linger, self._begin)

    def pauses(self) -> None:
        """There is nothing to do but to try a step again, if that is a while from now."""
        if self._timer is None and self._journal.pauses_until - now() > max(self._linger, LONG):
            self.rests(())

    def busy(self) -> None:
        """There is something to do again."""
        self._is_at_rest = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        self.busy()
        if self._leaving is not None:
            self._leaving.cancel()

    def _begin(self) -> None:
        self._timer = None
        self._leaving = asyncio.get_running_loop().create_task(self._leave(), name="leaving a run that rests")

    async def _leave(self) -> None:
        await self._journal.flush()
        if not self._is_at_rest:  # an event came meanwhile, and is at work: it would be lost with this run
            return
        at = now()
        until = [self._journal.waiters.next(at)]
        if self._journal.pauses_until > at:
            until.append(self._journal.pauses_until - at)
        wake_after = min((seconds for seconds in until if seconds is not None), default=None)
        await self._context.leave(self._events, wake_after=wake_after)
