"""Small workflows, one for each thing that a workflow can do."""

import asyncio
import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, Field
from workflows import Context, Workflow, catch_error, step
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)
from workflows.resource import Resource
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Echo(Workflow):
    """One step; the result is what came in."""

    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("value"))


class Sync(Workflow):
    @step
    def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("value"))


class Half(Event):
    text: str


class Chain(Workflow):
    @step
    async def first(self, ev: StartEvent) -> Half:
        return Half(text=ev.text + "a")

    @step
    async def second(self, ev: Half) -> StopEvent:
        return StopEvent(result=ev.text + "b")


class Part(Event):
    number: int


class Done(Event):
    square: int


class FanOut(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(number=n) for n in range(ev.count)]

    @step(num_workers=4)
    async def square(self, ev: Part) -> Done:
        return Done(square=ev.number**2)

    @step
    async def join(self, evs: list[Done]) -> StopEvent:
        return StopEvent(result=sorted(ev.square for ev in evs))


class SendAndCollect(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        for n in range(3):
            ctx.send_event(Part(number=n))
        return None

    @step
    async def join(self, ctx: Context, ev: Part) -> StopEvent | None:
        found = ctx.collect_events(ev, [Part] * 3)
        return StopEvent(result=[each.number for each in found]) if found else None


class Question(StartEvent):
    topic: str
    depth: int = 1
    tags: list[str] | None = None


class Answer(StopEvent):
    text: str
    at: dt.datetime


class Typed(Workflow):
    """A start event and a stop event of its own."""

    @step
    async def answer(self, ev: Question) -> Answer:
        return Answer(text=f"{ev.topic} {ev.depth}", at=dt.datetime(2024, 1, 2, tzinfo=dt.UTC))


class Progress(Event):
    step: int
    note: Any = None


class Streaming(Workflow):
    @step
    async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(ev.count):
            ctx.write_event_to_stream(Progress(step=n, extra="x"))
        return StopEvent(result={"count": ev.count})


class Noting(Workflow):
    """Writes one event whose note is given."""

    @step
    async def note(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(ev.event)
        await asyncio.Event().wait()
        return StopEvent()


class Asking(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="name?")

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


class Flaky(Workflow):
    """Fails a number of times before it succeeds."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(3)))
    async def attempt(self, ctx: Context, ev: StartEvent) -> StopEvent:
        tried = ctx.retry_info().retry_number + 1
        if tried <= ev.failures:
            raise OSError(f"attempt {tried}")
        return StopEvent(result=tried)


class Patient(Workflow):
    """Waits for an event that never comes."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(), timeout=0.02)
        return StopEvent(result=answer.response)


class Trouble(Exception):
    pass


class Raising(Workflow):
    @step
    async def fine(self, ev: StartEvent) -> Half:
        return Half(text="x")

    @step
    async def broken(self, ev: Half) -> StopEvent:
        raise Trouble("no luck")


class Recovering(Raising):
    @catch_error
    async def rescue(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result=f"{ev.step_name}: {ev.exception}")


class Leaving(Workflow):
    """Ends its step in ways that are no exceptions of a step."""

    @step
    async def leave(self, ev: StartEvent) -> StopEvent:
        raise ev.error


class Forever(Workflow):
    """Never ends by itself; says when it began and that it was cancelled."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return StopEvent()


class Stubborn(Workflow):
    """Goes on when it is cancelled, until it is released."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.began = asyncio.Event()
        self.release = asyncio.Event()

    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        self.began.set()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue
        return StopEvent(result="late")


class Early(Workflow):
    """Ends while another of its steps is at work, which refuses to be cancelled."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release = asyncio.Event()

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | Half | None:
        ctx.send_event(Part(number=1))
        ctx.send_event(Half(text="x"))
        return None

    @step
    async def slow(self, ev: Part) -> None:
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue

    @step
    async def quick(self, ev: Half) -> StopEvent:
        return StopEvent(result="quick")


class Doc(BaseModel):
    text: str
    score: float = 0.0


class Found(Event):
    docs: list[Doc] = Field(default_factory=list)


class Remembering(Workflow):
    """Keeps what it was given under a key, and gives back what was there."""

    @step
    async def remember(self, ctx: Context, ev: StartEvent) -> Found | StopEvent:
        before = await ctx.store.get(ev.key, default=None)
        if "value" in ev:
            await ctx.store.set(ev.key, ev.value)
        if ev.get("clear"):
            await ctx.store.clear()
        return StopEvent(result=before)

    @step
    async def never(self, ev: Found) -> StopEvent:
        return StopEvent()


class Memory(BaseModel):
    count: int = 0
    docs: list[Doc] = Field(default_factory=list)
    seen: set[str] = Field(default_factory=set)
    last: dt.date | None = None
    anything: Any = None


class TypedMemory(Workflow):
    @step
    async def remember(self, ctx: Context[Memory], ev: StartEvent) -> StopEvent:
        async with ctx.store.edit_state() as state:
            state.count += 1
            state.docs.append(Doc(text=ev.get("text", "")))
            state.seen.add(ev.get("text", ""))
            state.last = dt.date(2024, 1, 2)
            state.anything = ev.get("anything")
        return StopEvent(result=[state.count, sorted(state.seen)])


class Reading(Workflow):
    """Looks into its typed state, and leaves it."""

    @step
    async def look(self, ctx: Context[Memory], ev: StartEvent) -> StopEvent:
        state = await ctx.store.get_state()
        return StopEvent(result=state.count)


class Gathering(Workflow):
    """Waits until all its runs are under way, so that they are at once; then adds to what its session holds."""

    def __init__(self, parties: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.barrier = asyncio.Barrier(parties)

    @step
    async def meet(self, ctx: Context, ev: StartEvent) -> Half:
        ctx.write_event_to_stream(Progress(step=0, note=ev.name))
        await self.barrier.wait()
        seen = await ctx.store.get("seen", default=[])
        await ctx.store.set("seen", [*seen, ev.name])
        return Half(text=ev.name)

    @step
    async def tell(self, ctx: Context, ev: Half) -> StopEvent:
        await self.barrier.wait()
        ctx.write_event_to_stream(Progress(step=1, note=ev.text))
        return StopEvent(result=await ctx.store.get("seen"))


class OwnRun(Workflow):
    """Has a `run()` of its own, with its own arguments."""

    def run(self, question: str, loud: bool = False, **kwargs: Any) -> Any:  # type: ignore[override]  # as people write it
        return super().run(topic=question.upper() if loud else question, **kwargs)

    @step
    async def answer(self, ctx: Context, ev: StartEvent) -> StopEvent:
        asked = await ctx.store.get("asked", default=0) + 1
        await ctx.store.set("asked", asked)
        ctx.write_event_to_stream(Progress(step=asked))
        return StopEvent(result=[ev.topic, asked])


class PassedOn(Typed):
    """Its `run()` takes anything, and passes it on."""

    def run(self, **kwargs: Any) -> Any:
        return super().run(**kwargs)


class AwaitedRun(Echo):
    """Its `run()` is a coroutine, and changes the result."""

    async def run(self, value: str) -> Any:  # type: ignore[override]  # as people write it
        return {"changed": await super().run(value=value)}


def make_client() -> dict[str, int]:
    return {"calls": 0}


class WithResource(Workflow):
    @step
    async def call(self, ev: StartEvent, client: Annotated[dict[str, int], Resource(make_client)]) -> StopEvent:
        client["calls"] += 1
        return StopEvent(result=client["calls"])


class Recursive(Workflow):
    """A step runs its own workflow, by itself."""

    @step
    async def descend(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Progress(step=ev.depth))
        below = await self.run(depth=ev.depth - 1) if ev.depth else 0
        await ctx.store.set("depth", ev.depth)
        return StopEvent(result=below + 1)
