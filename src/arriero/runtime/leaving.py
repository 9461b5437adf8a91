"""Runs that rest are left: their memory and their claim are given up until an event comes, or a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from arriero.runtime.journal import RunJournal
from arriero.types.clock import now
from arriero.types.handling import HandlerContext

#: Seconds from which on a pause before the next try of a step is worth to leave the run.
LONG = 5.0


class Leaving:
    """Leaves an item whose run has rested for a while, and whose journal says all of it.

    ``on_fault`` is told what kept the journal from being written.
    """

    def __init__(
        self, context: HandlerContext, journal: RunJournal, linger: float, on_fault: Callable[[BaseException], None]
    ) -> None:
        self._context = context
        self._journal = journal
        self._linger = linger
        self._on_fault = on_fault
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None

    def rests(self, events: Sequence[str]) -> None:
        """There is nothing to do until one of these events comes."""
        self.busy()
        self._timer = asyncio.get_running_loop().call_later(self._linger, self._begin, events)

    def pauses(self) -> None:
        """There is nothing to do but to try a step again, if that is a while from now."""
        if self._timer is None and self._journal.pauses_until - now() > max(self._linger, LONG):
            self.rests(())

    def busy(self) -> None:
        """There is something to do again, which would be lost with this run.

        Should it be given up already, that was before an event which its worker had not seen, or there is a time at
        which it goes on; what it does until it hears of that is refused.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._leaving is not None:
            self._leaving.cancel()

    async def end(self) -> None:
        """The run is over; nothing is under way afterwards."""
        self.busy()
        if self._leaving is not None:
            await asyncio.wait([self._leaving])

    def _begin(self, events: Sequence[str]) -> None:
        self._timer = None
        self._leaving = asyncio.get_running_loop().create_task(self._leave(events), name="leaving a run that rests")
        self._leaving.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._leaving is task:
            self._leaving = None  # whose exception holds the run
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fault(error)

    async def _leave(self, events: Sequence[str]) -> None:
        await self._journal.flush()
        at = now()
        until = [self._journal.waiters.next(at)]
        if self._journal.pauses_until > at:
            until.append(self._journal.pauses_until - at)
        wake_after = min((seconds for seconds in until if seconds is not None), default=None)
        await self._context.leave(events, wake_after=wake_after)
