"""A run is left only while it rests, and ends where it cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from workflows import Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero.runtime.leaving import Leaving
from arriero.runtime.past import Waiters
from arriero.services.handlers import WorkflowHandler, WorkflowOptions
from arriero.types.errors import PayloadTooLarge
from tests.unit.runtime.desk import Desk


class SlowJournal:
    """Its entry takes until it is told."""

    def __init__(self) -> None:
        self.waiters = Waiters()
        self.pauses_until = 0.0
        self.begun = asyncio.Event()
        self.written = asyncio.Event()

    async def flush(self) -> None:
        self.begun.set()
        await self.written.wait()


class Noting:
    """Notes that it was told to leave, and answers when it is told."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.answer = asyncio.Event()
        self.given_up = False

    async def leave(self, events: Any, **_: Any) -> None:
        self.left.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise


class Scene:
    def __init__(self) -> None:
        self.journal, self.context = SlowJournal(), Noting()
        self.faults: list[BaseException] = []
        self.leaving = Leaving(self.context, self.journal, 0.0, self.faults.append)  # type: ignore[arg-type]  # as much of them as it uses


async def test_a_run_that_gets_an_event_while_its_journal_is_written_is_not_left() -> None:
    scene = Scene()
    scene.leaving.rests(["Answer"])
    await scene.journal.begun.wait()
    scene.leaving.busy()
    scene.journal.written.set()
    await asyncio.wait([task for task in asyncio.all_tasks() if "leaving" in task.get_name()])
    assert not scene.context.left.is_set()
    scene.leaving.rests(["Answer"])
    await asyncio.wait_for(scene.context.left.wait(), 5)
    await scene.leaving.end()


async def test_a_run_that_has_something_to_do_again_asks_no_more_to_be_left() -> None:
    scene = Scene()
    scene.journal.written.set()
    scene.leaving.rests(["Answer"])
    await scene.context.left.wait()
    scene.leaving.busy()
    await asyncio.wait([task for task in asyncio.all_tasks() if "leaving" in task.get_name()], timeout=5)
    assert scene.context.given_up
    await scene.leaving.end()


async def test_nothing_of_it_is_under_way_after_the_end() -> None:
    scene = Scene()
    scene.journal.written.set()
    scene.leaving.rests(["Answer"])
    await scene.context.left.wait()
    await scene.leaving.end()
    assert scene.context.given_up
    assert not [task for task in asyncio.all_tasks() if "leaving" in task.get_name()]


class Sure(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    pass


class Asks(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Sure:
        return Sure()

    @step
    async def answered(self, ev: Answer) -> StopEvent:
        return StopEvent()


class Stuck(Desk):
    """Cannot be left."""

    async def leave(self, events: Sequence[str], *, wake_after: float | None = None, reason: str = "") -> None:
        raise PayloadTooLarge("what is left is too large")


async def test_a_run_that_cannot_be_left_fails_with_the_reason() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(PayloadTooLarge, match="what is left"):
            await Stuck().handle(WorkflowHandler(Asks(), WorkflowOptions(linger=0.0)))
