"""What the long run's services do. Each step leaves a line outside when it begins: the task, the step, its process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero import Nested

HERE = Path(__file__)
STEPS = 4


def begins(task: str, number: int) -> None:
    """One line, written at once."""
    with Path(os.environ["EFFECTS"]).open("a") as file:
        file.write(f"{task} {number} {os.getpid()}\n")


def add(one: int, two: int) -> int:
    return one + two


class Next(Event):
    task: str
    number: int


class Chain(Workflow):
    """Several steps, each of which streams and keeps something."""

    @step
    async def begin(self, ev: StartEvent) -> Next:
        begins(ev.task, 0)
        return Next(task=ev.task, number=1)

    @step
    async def go(self, ctx: Context, ev: Next) -> Next | StopEvent:
        begins(ev.task, ev.number)
        ctx.write_event_to_stream(ev)
        await asyncio.sleep(0.02)
        async with ctx.store.edit_state() as state:
            state[ev.task] = [*state.get(ev.task, []), ev.number]
        if ev.number < STEPS:
            return Next(task=ev.task, number=ev.number + 1)
        return StopEvent(result=await ctx.store.get(ev.task))


class Nest(Workflow):
    """Has a sum done by another service, then goes one step on."""

    @step
    async def ask(self, ev: StartEvent, add: Annotated[Workflow, Nested()]) -> Next:
        begins(ev.task, 0)
        return Next(task=ev.task, number=int(await add.run(one=ev.one, two=1)))

    @step
    async def tell(self, ev: Next) -> StopEvent:
        begins(ev.task, 1)
        return StopEvent(result=ev.number)


class Word(HumanResponseEvent):
    word: str


class Ask(Workflow):
    """Asks, and ends with what it is told."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        begins(ev.task, 0)
        return InputRequiredEvent(prefix=ev.task)

    @step
    async def told(self, ev: Word) -> StopEvent:
        begins(ev.word, 1)
        return StopEvent(result=ev.word)
