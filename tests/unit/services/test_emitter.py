"""The events of an item and the entries of its journal, where calls are given up before they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from arriero.services.context import ItemContext, Run
from arriero.services.emitter import Emitter
from arriero.services.slots import Slots
from arriero.testing import VirtualTime
from arriero.types.errors import StoreUnavailable
from arriero.types.link import Event, Grant, Journal, Wait
from tests.unit.services.test_worker import grant


class Plane:
    """Takes events and entries as a control plane does: those that it has are not taken again."""

    def __init__(self) -> None:
        self.events: list[int] = []
        self.entries: list[Any] = []
        self.frames: list[str] = []
        self.asked = asyncio.Event()
        #: Requests are answered, and heard, only while it is set.
        self.answers = asyncio.Event()
        self.answers.set()
        #: Whether what is not answered is taken nevertheless.
        self.hears = True
        self.refusals = 0

    async def emit(self, item_id: str, token: str, events: list[Event]) -> None:
        self.frames.append(f"emit {[event.number for event in events]}")
        await self._take(events)

    async def journal(self, frame: Journal) -> None:
        self.frames.append(f"journal {frame.number} {[event.number for event in frame.events]}")
        known = frame.number < len(self.entries)
        await self._take([] if known else frame.events, None if known else msgspec.json.decode(frame.entry))

    async def wait(self, wait: Wait) -> bool:
        self.frames.append("wait")
        await self._take([])
        return False

    async def _take(self, events: list[Event], entry: Any = None) -> None:
        self.asked.set()
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("not now")
        if not self.answers.is_set() and not self.hears:
            await self.answers.wait()
        seen = self.events[-1] + 1 if self.events else 0
        self.events += [event.number for event in events if event.number >= seen]
        self.entries += [entry] if entry is not None else []
        await self.answers.wait()


class Scene:
    def __init__(self) -> None:
        grant = Grant(
            item_id="i", task_id="t", session_id="s", service="work", token="token", epoch=1, attempt=1, input="{}"
        )
        self.plane = Plane()
        self.emitter = Emitter(self.plane, grant, _never)  # type: ignore[arg-type]  # as much of a link as it uses
        self.run = Run(grant, self.emitter, Slots(1))
        self.context = ItemContext(self.run, self.plane, asyncio.ensure_future, _never, _never, _never)  # type: ignore[arg-type]  # as above

    def emit(self) -> None:
        self.context.emit({}, "Said")

    async def give_up(self, call: Any) -> None:
        """Begin a call which the control plane leaves without an answer, and cancel it."""
        self.plane.answers.clear()
        self.plane.asked.clear()
        task = asyncio.ensure_future(call)
        await self.plane.asked.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        self.plane.answers.set()

    async def report(self) -> list[int]:
        """The events that the readers have after the report."""
        self.emitter.add(b"{}", "StopEvent", last=True)
        seen = self.plane.events[-1] + 1 if self.plane.events else 0
        return self.plane.events + [event.number for event in await self.emitter.rest() if event.number >= seen]


def _never() -> None:
    raise AssertionError("nobody else has the item")


@pytest.fixture
async def time() -> AsyncIterator[VirtualTime]:
    time = VirtualTime()
    time.install(asyncio.get_running_loop())
    yield time
    time.remove()


@pytest.fixture(params=["heard", "unheard"])
async def scene(request: pytest.FixtureRequest, time: VirtualTime) -> Scene:
    scene = Scene()
    scene.plane.hears = request.param == "heard"
    return scene


async def test_the_events_of_an_entry_that_was_given_up_are_with_the_readers_in_the_end(scene: Scene) -> None:
    scene.emit()
    await scene.give_up(scene.context.record({"n": 0}))
    scene.emit()
    assert await scene.report() == [0, 1, 2]


async def test_an_entry_that_was_given_up_is_there_once_when_it_is_written_again(scene: Scene) -> None:
    scene.emit()
    await scene.give_up(scene.context.record({"n": 0}))
    scene.emit()
    await scene.context.record({"n": 0})
    scene.emit()
    await scene.context.record({"n": 1})
    assert scene.plane.entries == [{"n": 0}, {"n": 1}]
    assert scene.plane.events == [0, 1, 2]


async def test_what_came_after_an_entry_without_events_that_was_given_up_is_not_lost_with_it(scene: Scene) -> None:
    await scene.give_up(scene.context.record({"n": 0}))
    scene.emit()
    await scene.context.record({"n": 0})
    assert (scene.plane.entries, await scene.report()) == ([{"n": 0}], [0, 1])


async def test_who_gives_up_waiting_for_a_frame_under_way_leaves_it_under_way(scene: Scene) -> None:
    scene.plane.answers.clear()
    scene.emit()
    await scene.plane.asked.wait()
    task = asyncio.ensure_future(scene.context.record({"n": 0}))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    scene.plane.answers.set()
    assert await scene.report() == [0, 1]
    assert scene.plane.frames == ["emit [0]"]


async def test_what_was_to_be_sent_before_a_run_is_left_stays_to_be_sent(scene: Scene) -> None:
    scene.emit()
    await scene.give_up(scene.context.leave([]))
    scene.emit()
    assert ("wait" in scene.plane.frames, await scene.report()) == (False, [0, 1, 2])


async def test_what_may_have_been_taken_is_sent_by_itself_before_anything_goes_along_again(scene: Scene) -> None:
    scene.emit()
    await scene.give_up(scene.context.record({"n": 0}))
    scene.emit()
    await scene.context.record({"n": 0})
    scene.emit()
    await scene.context.record({"n": 1})
    assert scene.plane.frames == ["journal 0 [0]", "emit [0, 1]", "journal 0 []", "journal 1 [2]"]


async def test_no_event_overtakes_those_of_an_entry_that_the_store_does_not_take(scene: Scene) -> None:
    scene.emit()
    scene.plane.refusals = 1
    writing = asyncio.ensure_future(scene.context.record({"n": 0}))
    await scene.plane.asked.wait()
    scene.emit()
    await asyncio.sleep(0.1)  # longer than events gather
    await writing
    await asyncio.sleep(0.1)
    assert scene.plane.events == [0, 1]


async def test_events_that_come_while_an_entry_is_written_follow_by_themselves(scene: Scene) -> None:
    scene.plane.answers.clear()
    writing = asyncio.ensure_future(scene.context.record({"n": 0}))
    await scene.plane.asked.wait()
    scene.emit()
    scene.plane.answers.set()
    await writing
    await asyncio.sleep(0.1)  # longer than events gather
    assert scene.plane.events == [0]


class Line:
    """Takes events, and notes when."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self.taken: list[tuple[float, list[int]]] = []

    async def emit(self, item_id: str, token: str, events: list[Event]) -> None:
        self.taken.append((self._time.passed, [event.number for event in events]))


@pytest.mark.shows("run.first-event")
async def test_the_first_event_is_sent_at_once_and_those_behind_it_together_soon(time: VirtualTime) -> None:
    line: Any = Line(time)
    emitter = Emitter(line, grant(), _never)
    await time.advance(1.0)
    for number in range(3):
        emitter.add(b"%d" % number, "Told", last=False)
        await time.advance(0.001)
    await time.advance(1.0)
    emitter.add(b"3", "Told", last=False)
    await time.settle()
    (first, alone), (soon, together), (later, again) = line.taken
    assert (alone, together, again) == ([0], [1, 2], [3])
    assert first == 1.0
    assert soon - first <= 0.02
    assert later == pytest.approx(2.003, abs=1e-4)
