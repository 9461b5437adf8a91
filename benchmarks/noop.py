"""What every system serves: a workflow of one step that returns what it is given, and a function that does."""

from __future__ import annotations

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent


class NoOp(Workflow):
    @step
    async def end(self, event: StartEvent) -> StopEvent:
        return StopEvent(result=event.x)


async def noop(x: int) -> int:
    return x
