"""What rests or has ended is held by nothing, not even until garbage is next collected."""

import gc
from collections.abc import Iterator

import pytest
from workflows import Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero.core.kernel import Change
from arriero.core.readers import Live
from arriero.runtime.surroundings import ItemRuns
from arriero.services.context import ItemContext
from arriero.testing import Harness

#: What knows a run, an answer, or a stream, and is made for each of them.
HOLDERS = (Change, ItemContext, ItemRuns, Live)


class Asks(Workflow):
    @step
    async def ask(self, event: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def answered(self, event: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=event.response)


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held() -> list[str]:
    return [type(each).__name__ for each in gc.get_objects() if isinstance(each, HOLDERS)]


@pytest.mark.usefixtures("uncollected")
async def test_a_run_that_waits_is_held_by_nothing_once_it_is_left() -> None:
    before = held()
    async with Harness() as h:
        await h.serve(Asks, "asks")
        task = await h.start("asks")
        await task.event("InputRequiredEvent")
        assert "ItemRuns" in held()
        await h.advance(60)
        assert held() == before
        await task.send(HumanResponseEvent(response="yes"))
        assert await task.result() == "yes"
        await h.settle()
        assert held() == before
