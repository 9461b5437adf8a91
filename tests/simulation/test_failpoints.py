"""Everything dies at each commit of the control plane and at each frame of the links, also while it recovers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero import Nested
from arriero.testing import Harness, wires
from arriero.testing.harness import HarnessTask
from arriero.testing.lives import Life

#: Effects outside: how often each step began, over all deaths.
outside: Counter[str] = Counter()


class Next(Event):
    number: int


class Sure(InputRequiredEvent):
    prefix: str


class Word(HumanResponseEvent):
    word: str


class Whole(Workflow):
    """A child, a stream, a state, a question."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent, double: Annotated[Workflow, Nested()]) -> Next:
        outside["begin"] += 1
        number: Any = await double.run(number=ev.number)
        await ctx.store.set("doubled", number)
        return Next(number=number)

    @step
    async def ask(self, ctx: Context, ev: Next) -> Sure:
        outside["ask"] += 1
        ctx.write_event_to_stream(ev)
        return Sure(prefix="which word?")

    @step
    async def end(self, ctx: Context, ev: Word) -> StopEvent:
        outside["end"] += 1
        return StopEvent(result=f"{ev.word} {await ctx.store.get('doubled')}")


def double(number: int) -> int:
    return 2 * number


class Deaths:
    """Lets everything die at its ``at``-th chance, and again at the ``then``-th after that."""

    def __init__(self, at: int | None, then: int | None) -> None:
        self._left = [number for number in (at, then) if number is not None]
        self.seen = 0
        self.due = asyncio.Event()
        self.life: Life | None = None

    def chance(self) -> bool:
        """Whether everything is dead from here on."""
        self.seen += 1
        if not self._left or self.seen < self._left[0]:
            return False
        self._left.pop(0)
        self.seen = 0
        if self.life is not None:
            self.life.end()
        self.due.set()
        return True


async def history(kind: str, at: int | None = None, then: int | None = None) -> int:
    """Run it with deaths at commits or frames, look at its end; gives how many chances there were."""
    outside.clear()
    deaths = Deaths(at, then)
    async with Harness() as harness:
        world = harness.world

        def join(life: Life) -> None:
            async def committed(_: Sequence[Any]) -> None:
                if kind != "frames":
                    deaths.chance()

            deaths.life = life
            life.before, life.after = (committed, life.after) if kind == "before" else (life.before, committed)

        core = world.core
        assert core is not None
        assert isinstance(core.kernel.store, Life)
        join(core.kernel.store)
        world.on_life = join
        with pytest.MonkeyPatch.context() as patch:
            send = wires.Pipe.send

            def frame(pipe: wires.Pipe, data: bytes | None) -> None:
                if not (kind == "frames" and deaths.chance()):
                    send(pipe, data)

            patch.setattr(wires.Pipe, "send", frame)
            reviving = asyncio.ensure_future(revive(harness, deaths))
            for what, name in ((Whole, "whole"), (double, "double")):
                await served(harness, what, name)
            task = await harness.submit("whole", {"number": 21}, session=await harness.session("s"), task_id="t")
            await answered(task)
            assert await task.text() == "yes 42"
            await check_stream(task)
            reviving.cancel()
    assert all(count <= 1 + (at is not None) + (then is not None) for count in outside.values()), outside
    return deaths.seen


async def served(harness: Harness, what: Any, name: str) -> None:
    serving = asyncio.ensure_future(harness.serve(what, name))
    await asyncio.wait({serving}, timeout=60)  # it may die while it connects; then it is started again
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def answered(task: HarnessTask) -> None:
    await task.event("Sure")
    await task.send(Word(word="yes"))


async def check_stream(task: HarnessTask) -> None:
    entries = await task.entries()
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.kind for entry in entries].count("end") == 1
    assert entries[-1].kind == "end"


async def revive(harness: Harness, deaths: Deaths) -> None:
    """Whatever died is started again, on what was kept."""
    while True:
        await deaths.due.wait()
        deaths.due.clear()
        for hand in harness.world.hands:
            hand.link.cut()
        await harness.kill_core()
        for hand in harness.world.hands:
            await hand.kill()
        starting = asyncio.ensure_future(harness.start_core())
        dying = asyncio.ensure_future(deaths.due.wait())
        await asyncio.wait({starting, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        for hand in harness.world.hands:
            hand.begin()


@pytest.mark.shows("down.everything")
@pytest.mark.parametrize("kind", ["before", "after", "frames"])
async def test_whatever_dies_at_any_point_all_ends_as_it_should(kind: str) -> None:
    points = await history(kind)
    assert points > 10
    for at in range(1, points + 1):
        await history(kind, at)


@pytest.mark.shows("down.everything")
@pytest.mark.parametrize("kind", ["after", "frames"])
async def test_whatever_dies_again_while_it_recovers_all_ends_as_it_should(kind: str) -> None:
    points = await history(kind)
    for at in range(2, points + 1, 5):
        for then in range(1, 8):
            await history(kind, at, then)
