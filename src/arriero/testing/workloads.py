"""What simulated services do, and how it is known whether they did it right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero.runtime.nested import Nested
from arriero.testing.chance import Chance
from arriero.testing.witness import Witness, finished_name
from arriero.types.errors import TransientError


class Stage:
    """What steps need of the simulation that is under way; there is one at a time."""

    witness = Witness()
    chance = Chance(0)


async def a_while() -> None:
    """A step's work takes time, or none."""
    if Stage.chance.happens(60):
        await asyncio.sleep(Stage.chance.random.random() * 0.5)


class Next(Event):
    """A step is to follow."""

    task: str
    number: int
    count: int


class Steps(Workflow):
    """Goes through ``count`` steps, and adds up in the run's own state which they were."""

    @step
    async def begin(self, ev: StartEvent) -> Next:
        """The first step."""
        return Next(task=ev.task, number=0, count=ev.count)

    @step
    async def go(self, ctx: Context, ev: Next) -> Next | StopEvent:
        """One of the others."""
        Stage.witness.step_begins(ev.task, finished_name("go", ev.model_dump(mode="json")))
        ctx.write_event_to_stream(ev)
        await a_while()
        async with ctx.store.edit_state() as state:
            state[ev.task] = [*state.get(ev.task, []), ev.number]
        if ev.number + 1 < ev.count:
            return Next(task=ev.task, number=ev.number + 1, count=ev.count)
        return StopEvent(result=await ctx.store.get(ev.task))


class Counter(Workflow):
    """Counts the tasks of its session."""

    @step
    async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """The only step."""
        await a_while()
        async with ctx.store.edit_state() as state:
            state["count"] = state.get("count", 0) + 1
        return StopEvent(result=await ctx.store.get("count"))


class Sum(Event):
    """What the children gave."""

    total: int


class Parent(Workflow):
    """Has two sums done by another service."""

    @step
    async def ask(self, ev: StartEvent, add: Annotated[Workflow, Nested()]) -> Sum:
        """Both at once."""
        sums: tuple[Any, ...] = await asyncio.gather(add.run(one=ev.number, two=1), add.run(one=ev.number, two=2))
        return Sum(total=sum(sums))

    @step
    async def tell(self, ev: Sum) -> StopEvent:
        """The sum of the sums."""
        await a_while()
        return StopEvent(result=ev.total)


class Question(InputRequiredEvent):
    """What a person is asked."""

    prefix: str


class Word(HumanResponseEvent):
    """The answer of a person."""

    word: str


class Asking(Workflow):
    """Asks, and ends with what it is told."""

    @step
    async def ask(self, ev: StartEvent) -> Question:
        """The question."""
        return Question(prefix="which word?")

    @step
    async def told(self, ev: Word) -> StopEvent:
        """The answer."""
        await a_while()
        return StopEvent(result=ev.word)


async def add(one: int, two: int) -> int:
    """A function; it fails now and then, and may be tried again."""
    await a_while()
    if not Stage.chance.calm and Stage.chance.happens(5):
        raise TransientError("the simulated other side is away")
    return one + two


#: What each service is, by its name.
SERVICES: dict[str, Callable[..., Any]] = {
    "steps": Steps,
    "counter": Counter,
    "parent": Parent,
    "asking": Asking,
    "add": add,
}
#: Services that others call.
NEEDS = {"parent": ["add"]}


def arguments(service: str, task_id: str, chance: Chance) -> dict[str, Any]:
    """The input of a new task."""
    number = chance.random.randrange(100)
    given: dict[str, dict[str, Any]] = {
        "steps": {"task": task_id, "count": 1 + number % 5},
        "parent": {"number": number},
        "add": {"one": number, "two": 1},
    }
    return given.get(service, {})


def expected(service: str, given: dict[str, Any]) -> Any:
    """The true result; None where it is not of the input alone."""
    match service:
        case "steps":
            return list(range(given["count"]))
        case "parent":
            return 2 * given["number"] + 3
        case "add":
            return given["one"] + 1
    return None
