"""What a run has around it once its workflow is deployed: a stream, other services, events from outside, and rest.

An item is one run, and the runs of bound workflows that it does in its own process because no service has their name.
Together they have one stream, one inbox and one rest.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Callable, Container
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflows.events import (
    Event,
    InternalDispatchEvent,
    StepStateChanged,
    UnhandledEvent,
    WorkflowIdleEvent,
)

from arriero.runtime.outside import Accepted, Held
from arriero.types.errors import ErrorInfo, InvalidInput, PayloadTooLarge
from arriero.types.handling import HandlerContext
from arriero.types.link import Arrival

if TYPE_CHECKING:
    from arriero.runtime.children import Calls
    from arriero.runtime.journal import RunJournal
    from arriero.runtime.leaving import Leaving
    from arriero.runtime.steps import StepNow

#: Tells a stream's readers of an event from outside that nothing took.
UNHANDLED = "UnhandledEvent"

# A reference that does not hold: contexts are copied into every timer and task that a step leaves behind.
_here: ContextVar[weakref.ref[Surroundings] | None] = ContextVar("arriero_surroundings", default=None)


def here() -> Surroundings | None:
    """What is around the run in which this is called; None outside of deployed ones."""
    found = _here.get()
    return found() if found is not None else None


@dataclass(frozen=True, slots=True)
class Durability:
    """What of a run is kept while it goes on.

    ``transactional``: what a step sends goes on when the step has ended, with its result. ``linger`` is for how many
    seconds a run that rests is kept at hand.
    """

    transactional: bool = True
    linger: float = 1.0


class ItemRuns:
    """The runs of one item."""

    def __init__(
        self,
        context: HandlerContext,
        describe: Callable[[BaseException], ErrorInfo],
        durability: Durability | None = None,
    ) -> None:
        self.context = context
        self.describe = describe
        self.durability = durability
        self.loop = asyncio.get_running_loop()
        #: The arrivals that an earlier run of the item took, and the journal of this one.
        self.taken: Container[int] = ()
        self.journal: RunJournal | None = None
        self.leaving: Leaving | None = None
        self._runs: list[Surroundings] = []
        self._early: list[Held] = []
        self._is_told = False
        # Whether something happened since the early events were last offered, so that one may be waited for now.
        self._is_fresh = False

    def own(self, accepted: Accepted, stop: str, *, has_asked: bool = False) -> Surroundings:
        """The item's own run, whose result ends with an event ``stop``; events from outside come from now on.

        ``has_asked``: it may have asked for something before it was interrupted.
        """
        run = Surroundings(self, accepted, stop=stop)
        run.has_asked = has_asked
        self._runs.append(run)
        self.context.listen(self.arrive)
        return run

    def below(self, run: Surroundings, accepted: Accepted, stop: str, service: str) -> Surroundings:
        """Another run in the same process, which ``run`` waits for."""
        inner = Surroundings(self, accepted, stop=stop, path=f"{run.path}/{service}" if run.path else service)
        self._runs.append(inner)
        self.offer()
        return inner

    def ended(self, run: Surroundings) -> None:
        self._runs.remove(run)
        if not self._runs:
            self.context.listen(_nobody)
            self.leaving = None

    def arrive(self, arrival: Arrival) -> None:
        """An event came from outside."""
        if arrival.seq in self.taken:
            return
        self._wakes()
        self._give(Held(arrival))

    def busy(self) -> None:
        """A step has begun or ended."""
        self._is_fresh = True
        self._wakes()

    def offer(self, *, at_rest: bool = False) -> None:
        """Try those again that came before anything waited for them."""
        early, self._early = self._early, []
        for held in early:
            held.tried.clear()
            self._give(held, at_rest=at_rest)

    def not_taken(self, held: Held, run: Surroundings) -> None:
        """A run had no use for it; others may have."""
        held.tried.append(run)
        if self.journal is not None:
            self.journal.not_taken(held)
        self._give(held)

    async def keep(self, *, durable: bool = False) -> None:
        """Have what the run has come to in its journal, before something is begun that must find it again."""
        if self.journal is not None:
            await self.journal.flush(durable=durable)

    def _wakes(self) -> None:
        if self._is_told:
            self.context.busy()
        self._is_told = False
        if self.leaving is not None:
            self.leaving.busy()

    def rest(self) -> None:
        """Say that there is nothing to do but to wait for an event, if that is so."""
        if not self._has_news():
            return
        if self._early and self._is_fresh:
            self._is_fresh = False
            self.offer(at_rest=True)
            if not self._has_news():
                return
        self.show_early()
        self._is_told = True
        awaited = self._awaited()
        self.context.idle(awaited, [held.arrival.type.rpartition(".")[2] for held in self._early])
        if self.leaving is not None and len(self._runs) == 1 and not self._early:
            self.leaving.rests(awaited)

    def _has_news(self) -> bool:
        """Whether it rests, and that was not said."""
        return not self._is_told and bool(self._runs) and self._runs[0].rests()

    def show_early(self) -> None:
        """Tell the readers of the stream, once, of each event that nothing took.

        What was sent as an answer, and answers nothing, leaves the question open, which is asked for again.
        """
        for held in self._early:
            if not held.is_shown:
                held.is_shown = True
                kind = held.arrival.type
                open_ = any(run.asks and run.accepted.names.get(kind, False) for run in self._runs)
                self.context.emit({"event_type": kind, "seq": held.arrival.seq}, UNHANDLED, asks=open_)

    def _awaited(self) -> list[str]:
        names: dict[str, None] = {}
        for run in self._runs:
            names.update(dict.fromkeys(run.accepted.shown(only_answers=run.asks)))
        return list(names)

    def _give(self, held: Held, *, at_rest: bool = False) -> None:
        run = self._taker(held, at_rest=at_rest)
        if run is None:
            self._early.append(held)
            self._early.sort(key=lambda each: each.arrival.seq)
            return
        try:
            event = run.accepted.event(held.arrival)
        except InvalidInput as error:
            self._refuse(held.arrival, run, error)
        else:
            self._wakes()
            run.put(event, held)

    def _taker(self, held: Held, *, at_rest: bool) -> Surroundings | None:
        """The run that an event may be for: one that asked, if it is an answer; else the outermost.

        A run that is going to ask takes no answer before, unless it rests without a question.
        """
        name = held.arrival.type
        takers = [run for run in self._runs if name in run.accepted.classes and run not in held.tried]
        if takers and takers[0].accepted.names.get(name):
            takers = sorted((run for run in takers if at_rest or not run.will_ask), key=lambda run: not run.asks)
        return takers[0] if takers else None

    def _refuse(self, arrival: Arrival, run: Surroundings, error: InvalidInput) -> None:
        """Tell the stream. An answer that cannot be read leaves its question open, which is asked for again."""
        told = {"event_type": arrival.type, "seq": arrival.seq, "problem": str(error)}
        self.context.emit(told, UNHANDLED, path=run.path, asks=bool(run.accepted.names.get(arrival.type)))
        self.rest()


class Surroundings:
    """What one run has around it."""

    __slots__ = (
        "__weakref__",
        "_asked",
        "_at_work",
        "_given",
        "_is_idle",
        "_put",
        "_stop",
        "_waiting",
        "accepted",
        "calls",
        "counts",
        "has_asked",
        "item",
        "path",
        "run_id",
        "scope",
    )

    def __init__(self, item: ItemRuns, accepted: Accepted, *, stop: str, path: str = "") -> None:
        self.item = item
        self.accepted = accepted
        self.path = path
        #: Goes before the names of all work in this run; what it calls is known by these.
        self.scope = ""
        #: How often a key of each name was asked for outside of steps.
        self.counts: dict[str, int] = {}
        #: The run's name with the engine, once it has one.
        self.run_id: str | None = None
        self.calls: Calls | None = None
        #: Whether anything was asked for, also before the run was interrupted.
        self.has_asked = False
        self._stop = stop
        self._put: Callable[[Event, Held], None] | None = None
        self._at_work: Callable[[], float] = _unknown
        self._waiting: list[tuple[Event, Held]] = []
        self._is_idle = False
        self._asked = 0
        self._given = 0

    @property
    def depth(self) -> int:
        """How many runs of this process it lies in."""
        return self.path.count("/") + 1 if self.path else 0

    @property
    def is_journaled(self) -> bool:
        """Whether what happens in it is kept in the item's journal."""
        return not self.path and self.item.journal is not None

    @property
    def asks(self) -> bool:
        """Whether the run asked for something that it was not told."""
        return self._asked > self._given

    @property
    def will_ask(self) -> bool:
        """Whether its first question is still to come."""
        return self.accepted.ask_first and not self.has_asked

    def name_of(self, now: StepNow | None) -> str:
        """The name of a step's work in this run, the same after a resume."""
        if now is None:
            return ""
        # A step may run workflows by itself; their works have the names of ours, but are others.
        return now.scope if self.run_id in (None, now.run_id) else f"{now.run_id}:{now.scope}"

    def enter(self) -> Any:
        """Make this what :func:`here` gives; the answer is for :func:`leave`."""
        return _here.set(weakref.ref(self))

    def attach(self, run_id: str, put: Callable[[Event, Held], None], at_work: Callable[[], float] | None) -> None:
        """The engine takes events from now on. ``at_work`` counts the steps that are, if that is known."""
        self.run_id = run_id
        self._put = put
        if at_work is not None:
            self._at_work = at_work
        waiting, self._waiting = self._waiting, []
        for event, held in waiting:
            put(event, held)

    def put(self, event: Event, held: Held) -> None:
        """Give the run an event from outside."""
        held.answers = self.asks and self.accepted.names.get(held.arrival.type, False)
        self._given += held.answers
        self._is_idle = False
        if self._put is not None:
            self._put(event, held)
        else:
            self._waiting.append((event, held))

    def emit(self, data: dict[str, Any], name: str) -> None:
        """Pass on what the run published."""
        try:
            self.item.context.emit(data, name, last=not self.path and name == self._stop, path=self.path)
        except PayloadTooLarge:
            if not self.path or name != self._stop:
                raise
            # Its caller has the result of a run in the same process; readers see at least that it ended.
            self.item.context.emit({}, name, path=self.path)

    def ask(self, data: dict[str, Any], name: str) -> None:
        """Pass on a question, for which an answer may have come already."""
        self._asked += 1
        self.has_asked = True
        self.item.context.emit(data, name, path=self.path, asks=True)
        self.item.offer()

    def note(self, event: InternalDispatchEvent, held: Held | None) -> None:
        """The engine says how the run goes on; ``held`` is the event from outside that this is about."""
        kind = type(event)  # of a few, and asked for often: `isinstance` is slow with pydantic's classes
        if kind is StepStateChanged:
            self._is_idle = False
            self.item.busy()
        elif kind is WorkflowIdleEvent:
            self._is_idle = True
            self.item.rest()
        elif kind is UnhandledEvent and held is not None:
            self._given -= held.answers
            self.item.not_taken(held, self)

    def rests(self) -> bool:
        """Whether nothing goes on here, save for waiting: of the engine, or of its steps for other runs that rest."""
        calls = self.calls
        if calls is None or not calls.open:
            return self._is_idle
        if calls.remote or not all(run.rests() for run in calls.runs):
            return False
        return self._is_idle or calls.steps >= self._at_work()

    def conclude(self) -> None:
        """The run has its result."""
        if not self.path:
            self.item.show_early()

    def end(self) -> None:
        """The run is over; nothing is given to it any more, and nothing refers to it in a ring."""
        self._put = None
        self._at_work = _unknown
        self.item.ended(self)


def leave(token: Any) -> None:
    _here.reset(token)


def _nobody(_: Arrival) -> None:
    """What comes after the end."""


def _unknown() -> float:
    return math.inf
