"""The workflows of the probes. What a process of its own serves is told by its environment.

A step that tells its client of something connects to the port that it is given. All processes share one clock.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Annotated

from workflows import Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

import arriero

#: The service that :class:`Hop` calls.
BELOW = os.environ.get("BENCH_BELOW", "nobody")


class Hop(Workflow):
    """Calls the service below it, which calls the one below that, ``more`` times in all."""

    @step
    async def go(self, event: StartEvent, below: Annotated[Workflow, arriero.Nested(BELOW)]) -> StopEvent:
        return StopEvent(result=1 + await below.run(more=event.more - 1) if event.more else 1)


class Held(Workflow):
    """Tells its number when it runs, and when it is cancelled."""

    @step
    async def hold(self, event: StartEvent) -> StopEvent:
        _, writer = await asyncio.open_connection("127.0.0.1", event.port)
        writer.write(f"{event.number}\n".encode())
        try:
            return StopEvent(result=await asyncio.Event().wait())
        except asyncio.CancelledError:
            writer.write(f"{time.monotonic()}\n".encode())
            raise
        finally:
            writer.close()


class Next(Event):
    number: int
    of: int


class Steps(Workflow):
    """Goes through so many steps."""

    @step
    async def begin(self, event: StartEvent) -> Next | StopEvent:
        return Next(number=2, of=event.count) if event.count > 1 else StopEvent(result=1)

    @step
    async def go(self, event: Next) -> Next | StopEvent:
        if event.number == event.of:
            return StopEvent(result=event.of)
        return Next(number=event.number + 1, of=event.of)


class Said(HumanResponseEvent):
    number: int


class Asking(Workflow):
    """Asks, and ends with what it is told."""

    @step
    async def ask(self, event: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix=f"{event.number}?")

    @step
    async def answered(self, event: Said) -> StopEvent:
        return StopEvent(result=event.number)


class Halfway(Event):
    port: int


class Interrupted(Workflow):
    """Its second step tells when it begins, and in which process, and never ends."""

    @step
    async def first(self, event: StartEvent) -> Halfway:
        return Halfway(port=event.port)

    @step
    async def second(self, event: Halfway) -> StopEvent:
        at = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", event.port)
        writer.write(f"{os.getpid()} {at}\n".encode())
        return StopEvent(result=len(await reader.read()))
