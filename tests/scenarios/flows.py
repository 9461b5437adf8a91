"""What the scenarios serve, in this process and in others."""

import asyncio
from pathlib import Path
from typing import Annotated

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

import arriero

HERE = str(Path(__file__).resolve())


class Progress(Event):
    number: int
    note: str = ""


class Greet(StartEvent):
    name: str
    times: int = 1


class Greeting(Workflow):
    """Names its arguments; its result is text."""

    @step
    async def greet(self, ev: Greet) -> StopEvent:
        return StopEvent(result=" ".join([f"hello {ev.name}"] * ev.times))


class Counting(Workflow):
    """Streams so many events, and then its sum."""

    @step
    async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(ev.get("upto", 3)):
            ctx.write_event_to_stream(Progress(number=number, note="ñ"))
            await asyncio.sleep(0)
        return StopEvent(result={"upto": ev.get("upto", 3)})


class Remembering(Workflow):
    """Keeps the words that it was told in its session, and gives them all back."""

    @step
    async def remember(self, ctx: Context, ev: StartEvent) -> StopEvent:
        words = await ctx.store.get("words", default=[])
        words.append(ev.word)
        await ctx.store.set("words", words)
        return StopEvent(result=words)


class Nested(Workflow):
    """Its result is what it was given."""

    @step
    async def give(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("value"))


class Question(InputRequiredEvent):
    text: str


class Reply(HumanResponseEvent):
    text: str


class Asking(Workflow):
    """Asks one question and gives the answer back."""

    @step
    async def ask(self, ev: StartEvent) -> Question:
        return Question(text="which colour?")

    @step
    async def conclude(self, ev: Reply) -> StopEvent:
        return StopEvent(result=f"it is {ev.text}")


class Middle(Event):
    text: str


class Failing(Workflow):
    """Streams one event, then its second step raises."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Middle:
        ctx.write_event_to_stream(Progress(number=1))
        return Middle(text=ev.get("text", "no such thing"))

    @step
    async def explode(self, ev: Middle) -> StopEvent:
        raise LookupError(ev.text)


async def double(x: int, note: str = "") -> dict[str, object]:
    """A function that is served as it is."""
    return {"doubled": 2 * x, "note": note}


async def beat(port: int) -> None:
    """Sends a beat every few milliseconds, until it is cancelled."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(b".")
            await asyncio.sleep(0.005)
    finally:
        writer.close()


class Beating(Workflow):
    """The same as a workflow."""

    @step
    async def beat(self, ev: StartEvent) -> StopEvent:
        await beat(ev.port)
        return StopEvent()


class Delegating(arriero.Workflow):
    """Has another service do it."""

    @arriero.step
    async def delegate(self, ev: StartEvent, beating: Annotated[Workflow, arriero.Nested()]) -> StopEvent:
        return StopEvent(result=await beating.run(port=ev.port))


def shout(text: str) -> str:
    """A plain function; it runs in a thread."""
    return text.upper()


greeting = Greeting()
answer_to_everything = 42
