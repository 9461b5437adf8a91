"""What is known of a run that goes on: the engine's state, and what the engine itself forgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workflows.events import Event, InputRequiredEvent
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter, DeleteWaiter
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickStepResult, TickWaiterTimeout, WorkflowTick


class Waiters:
    """When the steps that wait for an event give up, as seconds since the epoch."""

    def __init__(self) -> None:
        self.until: dict[tuple[str, str], float] = {}

    def note(self, tick: WorkflowTick) -> None:
        if not isinstance(tick, TickStepResult):
            return
        step = str(tick.step_id)
        for result in tick.result:
            if isinstance(result, AddWaiter) and result.timeout is not None:
                self.until.setdefault((step, result.waiter_id), (tick.stamped_at or 0.0) + result.timeout)
            elif isinstance(result, DeleteWaiter):
                self.until.pop((step, result.waiter_id), None)

    def next(self, now: float) -> float | None:
        """Seconds until the first of them."""
        return max(0.0, min(self.until.values()) - now) if self.until else None


@dataclass(slots=True)
class Past:
    """What a journal says: the engine's state, the state of the session, and what was taken from outside.

    ``unasked`` are questions that were about to be asked when the run was cut off; ``waiters`` the limits of the steps
    that wait.
    """

    broker: BrokerState
    state: dict[str, Any] | None = None
    taken: set[int] = field(default_factory=set)
    unasked: list[Event] = field(default_factory=list)
    waiters: Waiters = field(default_factory=Waiters)
    #: Whether it may have asked for something already.
    has_asked: bool = False
    #: How many entries were read.
    entries: int = 0

    def timeouts(self) -> list[tuple[float, TickWaiterTimeout]]:
        """The limits of the steps that still wait, and when they are due. The engine itself forgets them."""
        found = []
        for (step, waiter_id), until in self.waiters.until.items():
            worker = self.broker.workers.get(StepId.from_str(step))
            if worker is not None and any(waiter.waiter_id == waiter_id for waiter in worker.collected_waiters):
                found.append((until, TickWaiterTimeout(step_id=StepId.from_str(step), waiter_id=waiter_id)))
        return found


def is_question(event: object) -> bool:
    """Whether an event asks for something from outside."""
    return isinstance(event, InputRequiredEvent)
