"""Workflows that ask people, each in a way of its own, for tests that answer them."""

from __future__ import annotations

from pathlib import Path

import workflows
from workflows import Context
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

import arriero
from tests.scenarios.gate import pass_gate

HERE = str(Path(__file__).resolve())


class Question(InputRequiredEvent):
    text: str


class Reply(HumanResponseEvent):
    text: str


class Taken(Event):
    """Shows in the stream how often an answer was taken."""

    text: str


class Shipping(workflows.Workflow):
    """Asks, takes the answer, and stands at the gates that it is told of: before it asks, and behind the answer."""

    @workflows.step
    async def ask(self, ctx: Context, ev: StartEvent) -> Question:
        await ctx.store.set("gates", {"behind": ev.get("behind", ""), "port": ev.get("port", 0)})
        if ev.get("before"):
            await pass_gate(ev.port, ev.before)
        return Question(text="how many?")

    @workflows.step
    async def conclude(self, ctx: Context, ev: Reply) -> StopEvent:
        ctx.write_event_to_stream(Taken(text=ev.text))
        gates = await ctx.store.get("gates")
        if gates["behind"]:
            await pass_gate(gates["port"], gates["behind"])
        return StopEvent(result=f"shipped {ev.text}")


class Order(HumanResponseEvent):
    text: str
    of: str


class Twice(workflows.Workflow):
    """Asks two questions, one after the other, within one step, and tells the answers by what they are of."""

    @workflows.step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        what = Question(text="what?")
        thing = await ctx.wait_for_event(Order, waiter_event=what, requirements={"of": "thing"})
        how_many = Question(text=f"how many of {thing.text}?")
        number = await ctx.wait_for_event(Order, waiter_event=how_many, requirements={"of": "number"})
        return StopEvent(result=[thing.text, number.text])


class Patient(workflows.Workflow):
    """Waits for an answer, and so long and no longer."""

    @workflows.step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            reply = await ctx.wait_for_event(Reply, waiter_event=Question(text="well?"), timeout=ev.timeout)
        except TimeoutError:
            return StopEvent(result="nobody answered")
        return StopEvent(result=reply.text)


class Between(arriero.Workflow):
    """Has another service ask."""

    @arriero.step
    async def pass_on(self, ev: StartEvent, shipping: Shipping) -> StopEvent:
        return StopEvent(result=[await shipping.run()])
