"""Workflows and functions that make trouble, to be served by workers in processes of their own."""

import asyncio
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from tests.scenarios.gate import pass_gate

HERE = str(Path(__file__).resolve())


class Begun(Event):
    """The step is at work."""

    pid: int


def effect(word: str) -> None:
    """What the outside sees of a step: a line in the file that the environment names."""
    with Path(os.environ["EFFECTS"]).open("a") as file:
        file.write(f"{word} {os.getpid()}\n")


def is_first() -> bool:
    """Whether no step has had an effect yet."""
    return not Path(os.environ["EFFECTS"]).exists()


def values() -> dict[str, Any]:
    """Results that JSON cannot hold."""
    ring: list[Any] = []
    ring.append(ring)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return {
        "object": object(),
        "nan": float("nan"),
        "infinity": float("inf"),
        "bytes": b"abc",
        "cycle": ring,
        "surrogate": "\ud800",
        "digits": 10**5000,
        "key": {(1, 2): 3},
        "deep": deep,
        "inside": {"list": [1, {"x": object()}]},
        "function": values,
        "large": "x" * (40 * 1024 * 1024),
    }


class Returning(Workflow):
    """Returns a value that JSON cannot hold, or streams it."""

    @step
    async def give(self, ctx: Context, ev: StartEvent) -> StopEvent:
        value = {1, 2} if ev.kind == "set" else values()[ev.kind]
        if ev.get("stream"):
            ctx.write_event_to_stream(Odd(value=value))
        return StopEvent(result=None if ev.get("stream") else value)


class Odd(Event):
    value: Any


async def returning(kind: str) -> Any:
    return values()[kind]


class Misbehaving(Workflow):
    """Its step does what it is told."""

    @step
    async def misbehave(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Begun(pid=os.getpid()))
        return StopEvent(result=await getattr(Deeds, ev.deed)(ev))


class Delegating(Workflow):
    """Has another service do what it is told."""

    @step
    async def delegate(self, ev: StartEvent, work: Workflow) -> StopEvent:
        effect("delegated")
        return StopEvent(result=await work.run(**ev.to_dict()))


class Doomed(Workflow):
    """Has another service do something, and then takes its process along."""

    @step
    async def delegate(self, ev: StartEvent, work: Workflow) -> StopEvent:
        await work.run(deed="fine")
        effect("doomed")
        os._exit(13)


class Asking(Workflow):
    """Asks, and stands at a gate once it has its answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question = InputRequiredEvent(prefix="well?")  # type: ignore[call-arg]  # events take any
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question)
        effect("answered")
        await pass_gate(ev.port, ev.name)
        return StopEvent(result=answer.response)


class Deeds:
    """What a step may do."""

    @staticmethod
    async def fine(ev: StartEvent) -> str:
        return "fine"

    @staticmethod
    async def raise_it(ev: StartEvent) -> str:
        raise LookupError("no such thing")

    @staticmethod
    async def raise_unprintable(ev: StartEvent) -> str:
        class Unprintable(Exception):
            def __str__(self) -> str:
                raise RuntimeError("not even this")

        raise Unprintable

    @staticmethod
    async def raise_surrogate(ev: StartEvent) -> str:
        raise ValueError("half a character: \ud83e")

    @staticmethod
    async def raise_huge(ev: StartEvent) -> str:
        raise ValueError("x" * 50_000_000)

    @staticmethod
    async def raise_base(ev: StartEvent) -> str:
        raise BaseException("as low as it gets")  # noqa: TRY002  # what no handler should raise

    @staticmethod
    async def raise_group(ev: StartEvent) -> str:
        raise ExceptionGroup("two", [ValueError("a"), TypeError("b")])

    @staticmethod
    async def cancel_itself(ev: StartEvent) -> str:
        raise asyncio.CancelledError("enough")

    @staticmethod
    async def leave(ev: StartEvent) -> str:
        sys.exit(3)

    @staticmethod
    async def exit(ev: StartEvent) -> str:
        if ev.get("effect"):
            effect(ev.effect)
        os._exit(13)

    @staticmethod
    async def interrupt(ev: StartEvent) -> str:
        effect(ev.effect)
        raise KeyboardInterrupt

    @staticmethod
    async def stop_the_loop(ev: StartEvent) -> str:
        effect(ev.effect)
        asyncio.get_running_loop().stop()
        await asyncio.Event().wait()
        return "never"

    @staticmethod
    async def exit_at_first(ev: StartEvent) -> str:
        """Take the process along, unless another one was taken along before."""
        first = is_first()
        effect("run")
        if first:
            os._exit(13)
        return "done by another"

    @staticmethod
    async def never(ev: StartEvent) -> str:
        await asyncio.Event().wait()
        return "never"

    @staticmethod
    async def swallow(ev: StartEvent) -> str:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    @staticmethod
    async def leave_a_thread(ev: StartEvent) -> str:
        threading.Thread(target=threading.Event().wait).start()
        return "left"

    @staticmethod
    async def wait_for_a_thread(ev: StartEvent) -> str:
        await asyncio.to_thread(threading.Event().wait)
        return "never"

    @staticmethod
    async def block(ev: StartEvent) -> str:
        """Stand at the gate without giving the event loop a turn."""
        with socket.create_connection(("127.0.0.1", ev.port)) as gate:
            gate.sendall(b"blocked\n")
            gate.recv(100)
        return "unblocked"

    @staticmethod
    async def gate(ev: StartEvent) -> str:
        if ev.get("effect"):
            effect(ev.effect)
        await pass_gate(ev.port, ev.name)
        return f"through {ev.name}"


class Blocking(Workflow):
    """Its step is a plain function, which the engine runs in a thread."""

    @step
    def block(self, ev: StartEvent) -> StopEvent:
        if ev.get("seconds"):
            time.sleep(ev.seconds)
        if ev.get("stop"):
            raise StopIteration
        return StopEvent(result="unblocked")


def blocking(seconds: float = 0.0, stop: bool = False) -> str:
    """A plain function, which runs in a thread."""
    time.sleep(seconds)
    if stop:
        raise StopIteration
    return "unblocked"


class Wordy(Workflow):
    """Streams so many events of so many bytes, then waits at a gate, then streams as many again."""

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(ev.count):
            ctx.write_event_to_stream(Word(number=number, text="x" * ev.get("size", 0)))
            if number == ev.get("pause_at"):
                await pass_gate(ev.port, ev.name)
        return StopEvent(result=ev.count)


class Word(Event):
    number: int
    text: str


async def noted(number: int) -> int:
    """Twice the number, which is also told outside."""
    effect(str(number))
    return 2 * number


async def length(text: str) -> int:
    return len(text)
