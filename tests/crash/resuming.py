"""Workflows whose steps leave a line in a file each time they run, for tests that kill what runs them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero import TransientError, idempotency_key
from tests.scenarios.gate import pass_gate

HERE = Path(__file__)


def mark(what: str) -> None:
    """One line, written at once: what was done, and by which process."""
    with Path(os.environ["EFFECTS"]).open("a") as file:
        file.write(f"{what} {os.getpid()}\n")


class Next(Event):
    number: int


class Steps(Workflow):
    """Goes through ``count`` steps; the one numbered ``at`` stands at the gate."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Next:
        await ctx.store.set("wanted", {"count": ev.count, "at": ev.at, "port": ev.port})
        return Next(number=0)

    @step
    async def go(self, ctx: Context, ev: Next) -> Next | StopEvent:
        wanted = await ctx.store.get("wanted")
        mark(f"step{ev.number}")
        ctx.write_event_to_stream(Next(number=ev.number))
        if ev.number == wanted["at"]:
            await pass_gate(wanted["port"], "steps")
        async with ctx.store.edit_state() as state:
            state["seen"] = [*state.get("seen", []), ev.number]
        if ev.number + 1 < wanted["count"]:
            return Next(number=ev.number + 1)
        return StopEvent(result=await ctx.store.get("seen"))


def pay(key: str) -> None:
    """What a bank does that is given keys: the second payment of one key is no payment."""
    with suppress(FileExistsError), (Path(os.environ["EFFECTS"]).parent / f"{key}.paid").open("x"):
        pass


class Pays(Workflow):
    """Pays in its second step, and stands at the gate then."""

    @step
    async def begin(self, ev: StartEvent) -> Next:
        return Next(number=ev.port)

    @step
    async def settle(self, ev: Next) -> StopEvent:
        key = await idempotency_key("payment")
        mark(key)
        pay(key)
        await pass_gate(ev.number, "paid")
        return StopEvent(result=key)


class Flaky(Workflow):
    """Its second step fails in a way that passes."""

    tries = 0

    @step
    async def begin(self, ev: StartEvent) -> Next:
        mark("begin")
        return Next(number=1)

    @step
    async def end(self, ev: Next) -> StopEvent:
        mark("end")
        type(self).tries += 1
        if self.tries == 1:
            raise TransientError("not now", retry_after=0.01)
        return StopEvent(result=self.tries)


class Approval(HumanResponseEvent):
    yes: bool


class AskingOtherwise(Workflow):
    """The same with another step behind the question."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        mark("ask")
        return InputRequiredEvent(prefix="sure?")

    @step
    async def taken(self, ev: Approval) -> StopEvent:
        mark("taken")
        return StopEvent(result=ev.yes)


class Asking(Workflow):
    """Asks, and ends with what it is told."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        mark("ask")
        return InputRequiredEvent(prefix="sure?")

    @step
    async def answered(self, ev: Approval) -> StopEvent:
        mark("answered")
        return StopEvent(result=ev.yes)
