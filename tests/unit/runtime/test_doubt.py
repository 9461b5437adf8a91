"""While it is not sure whose an item is, no step of it begins."""

import asyncio
from collections.abc import Awaitable

import pytest
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from arriero.services.handlers import WorkflowHandler
from tests.unit.runtime.desk import Desk


class Middle(Event):
    pass


@pytest.mark.shows("time.stood-still")
async def test_a_step_begins_when_there_is_no_doubt_any_more() -> None:
    begun: list[str] = []
    ended = asyncio.Event()
    desk = Desk()

    class Two(Workflow):
        @step
        async def first(self, ev: StartEvent) -> Middle:
            begun.append("first")
            desk.doubts = asyncio.Event()
            ended.set()
            return Middle()

        @step
        async def second(self, ev: Middle) -> StopEvent:
            begun.append("second")
            return StopEvent()

    running = asyncio.ensure_future(desk.handle(WorkflowHandler(Two())))
    await ended.wait()
    while len(desk.entries) < 1:  # noqa: ASYNC110  # nobody tells of an entry
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert begun == ["first"]
    assert desk.doubts is not None
    desk.doubts.set()
    await running
    assert begun == ["first", "second"]


async def test_a_step_that_was_never_begun_ends_with_its_run() -> None:
    desk = Desk()
    desk.doubts = asyncio.Event()

    class One(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            raise AssertionError("the item is another's")

    running = asyncio.ensure_future(desk.handle(WorkflowHandler(One())))
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.shows("time.stood-still")
async def test_doubt_that_arises_while_the_engine_prepares_a_step_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()
    desk = Desk()

    class One(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            begun.set()
            return StopEvent()

    handler = WorkflowHandler(One())
    asked: list[None] = []

    def doubt() -> Awaitable[object] | None:
        asked.append(None)
        return None if desk.doubts is None or len(asked) == 1 else desk.doubts.wait()

    desk.doubts = asyncio.Event()
    monkeypatch.setattr(desk, "doubt", doubt)
    running = asyncio.ensure_future(desk.handle(handler))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (len(asked), begun.is_set()) == (2, False)
    desk.doubts.set()
    await running
    assert begun.is_set()
