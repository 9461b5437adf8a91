"""The journal of one run: what the engine has taken in, kept before what follows from it is begun.

Written when a step has its result and the run goes on: every tick since the last entry, the change of the state, and
which events from outside were taken. The tick that ends a run is not written, so a run of one step writes nothing.

An entry is ``{"ticks": [...], "state": ..., "patch": [...], "taken": [...], "asked": true}``, or a part of it: the
whole state when it first differs from what the session kept, patches (RFC 6902) of that form from then on, the numbers
of the arrivals that were taken, and whether what the entry before it asks for has been asked. Every so many entries
one says all that is known, as ``{"broker": ..., "state": ..., "taken": [...], "waiters": [...]}``, so that a run of any
length goes on as fast as a short one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from workflows.events import StopEvent
from workflows.runtime.types.results import StepWorkerFailed, StepWorkerResult
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick

from arriero.runtime.outside import Held
from arriero.runtime.past import Past, Waiters
from arriero.runtime.session import SessionState
from arriero.runtime.ticks import REMEMBERED, Found, TickCodec
from arriero.types.handling import HandlerContext


class RunJournal:
    """Keeps what a run does, one entry at a time; ``transactional`` holds back what steps send until they end."""

    def __init__(
        self,
        codec: TickCodec,
        context: HandlerContext,
        session: SessionState,
        past: Past | None = None,
        *,
        transactional: bool = True,
    ) -> None:
        self._codec = codec
        self._context = context
        self._session = session
        self._transactional = transactional
        self._buffer: list[WorkflowTick] = []
        self._taken: list[int] = []
        self._asks = False
        self._begun: _Entry | None = None
        # Whether a power cut would take the last entry.
        self._is_behind = False
        self._turn = asyncio.Lock()
        self._found: Found = deque(maxlen=REMEMBERED)
        self._summary = Summary(codec, past, context.grant.item_id)
        self._sends: dict[str, list[WorkflowTick]] = {}
        self.waiters = past.waiters if past is not None else Waiters()
        #: Until when the run only waits to try a step again, in seconds since the epoch.
        self.pauses_until = 0.0

    async def on_tick(self, tick: WorkflowTick, held: Held | None) -> None:
        """The engine has taken a tick, and begins nothing before this returns."""
        self._buffer.append(tick)
        self.waiters.note(tick)
        self.pauses_until = max(self.pauses_until, _retry_at(tick))
        if held is not None:
            self._taken.append(held.arrival.seq)
        if isinstance(tick, TickStepResult) and not _ends(tick):
            await self.flush()

    async def after_tick(self, tick: WorkflowTick, deliver: Callable[[WorkflowTick], None]) -> None:
        """What follows from the tick has begun: what its step sent goes on, what it asks for is known to be asked."""
        if self._asks:
            await self.flush(asked=True)
            self._asks = False
        if isinstance(tick, TickStepResult) and tick.invocation_id is not None:
            for sent in self._sends.pop(tick.invocation_id, ()):
                deliver(sent)
        if self._summary.is_due and not self._buffer:
            await self._sum_up()

    def last_step(self) -> tuple[str, float | None]:
        """The step that ended the run, and how many seconds it took. It is in no entry."""
        ended: TickStepResult | None = None
        began: float | None = None
        for tick in reversed(self._buffer):
            stamp = getattr(tick, "stamped_at", None)
            if ended is None:
                ended = tick if isinstance(tick, TickStepResult) else None
            elif isinstance(tick, TickAddEvent) and tick.event is ended.event:
                began = stamp
                break
            elif began is None:
                began = stamp  # what it was given is in an earlier entry: this let it go on
        if ended is None:
            return "", None
        if began is None or ended.stamped_at is None:
            return str(ended.step_id), None
        return str(ended.step_id), max(0.0, ended.stamped_at - began)

    def asks(self) -> None:
        """The engine asks for something from outside, as a consequence of the tick at hand."""
        self._asks = True

    def not_taken(self, held: Held) -> None:
        """The tick at hand found no use for an event from outside."""
        if held.arrival.seq in self._taken:
            self._taken.remove(held.arrival.seq)

    def holds(self, tick: WorkflowTick) -> bool:
        """Whether a step's send waits for the step's end."""
        emission = tick.emission if isinstance(tick, TickAddEvent) else None
        if emission is None or not self._transactional:
            return False
        self._sends.setdefault(emission.invocation_id, []).append(tick)
        return True

    async def flush(self, *, asked: bool = False, durable: bool = True) -> None:
        """Keep what has gathered.

        An entry that is begun stays to be written: when this is cancelled or raises, the next call writes it first.
        """
        async with self._turn:
            await self._write(durable=durable)
            if self._buffer or asked or (durable and self._is_behind):
                self._begun = self._entry(asked=asked)
                await self._write(durable=durable)

    async def _sum_up(self) -> None:
        async with self._turn:
            await self._write()
            self._begun = _Entry(self._summary.entry(self.waiters) | self._session.whole(), base=True)
            await self._write()

    def _entry(self, *, asked: bool) -> _Entry:
        """What has gathered, which gathers anew if it can be written. Errors: ``NotJSON``."""
        ticks, taken = self._buffer, self._taken
        value: dict[str, Any] = {"ticks": [self._codec.write(tick, self._found) for tick in ticks]}
        value |= self._session.change()
        if taken:
            value["taken"] = taken
        if asked:
            value["asked"] = True
        self._buffer, self._taken = [], []
        self._summary.add(ticks, taken)
        return _Entry(value)

    async def _write(self, *, durable: bool = True) -> None:
        entry = self._begun
        if entry is not None:
            await self._context.record(entry.value, self._codec.shape, durable=durable, base=entry.base)
            self._begun = None
            self._is_behind = not durable


class _Entry(NamedTuple):
    """An entry under way."""

    value: dict[str, Any]
    base: bool = False


class Summary:
    """The engine's state as of the last entry, a little behind: it is only worked out when it is to be written."""

    #: So many entries are written between two that say all.
    EVERY = 128

    def __init__(self, codec: TickCodec, past: Past | None, run_id: str) -> None:
        self._codec = codec
        self._run_id = run_id
        self._broker = past.broker if past is not None else None
        self._taken = sorted(past.taken) if past is not None else []
        self._ticks: list[WorkflowTick] = []
        self._entries = past.entries if past is not None else 0

    @property
    def is_due(self) -> bool:
        return self._entries >= self.EVERY

    def add(self, ticks: list[WorkflowTick], taken: list[int]) -> None:
        self._ticks += ticks
        self._taken += taken
        self._entries += 1

    def entry(self, waiters: Waiters) -> dict[str, Any]:
        """All of it, as an entry."""
        self._broker = self._codec.fold(self._broker, self._ticks, self._run_id)
        self._ticks, self._entries = [], 0
        return {
            "broker": self._codec.write_broker(self._broker),
            "taken": list(self._taken),
            "waiters": [[step, waiter, until] for (step, waiter), until in waiters.until.items()],
        }


def _retry_at(tick: WorkflowTick) -> float:
    """When a step whose try failed is tried again."""
    if not isinstance(tick, TickStepResult):
        return 0.0
    failed = (result for result in tick.result if isinstance(result, StepWorkerFailed))
    delays = ((each.failed_at, each.retry_decision.delay) for each in failed if each.retry_decision is not None)
    return max((at + delay for at, delay in delays if delay is not None), default=0.0)


def _ends(tick: TickStepResult) -> bool:
    """Whether a run may end with this result of a step. If it does not, the tick is kept with the next ones."""
    return any(
        (isinstance(result, StepWorkerResult) and isinstance(result.result, StopEvent))
        or (
            isinstance(result, StepWorkerFailed)
            and (result.retry_decision is None or result.retry_decision.delay is None)
        )
        for result in tick.result
    )
