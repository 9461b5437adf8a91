"""How a worker knows that it stood still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from arriero.services.pulse import Pulse
from arriero.types.link import Stop
from tests.unit.services.test_worker import at_work, grant


class HandLoop:
    """A loop whose time passes when the test says so; its timers fire when it turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], Any]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, action: Callable[[], Any]) -> asyncio.TimerHandle:
        timer = self.now + delay, action
        self.timers.append(timer)
        handle: Any = type("Handle", (), {"cancel": lambda _: self.timers.remove(timer)})()
        return handle

    def turn(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        for timer in due:
            self.timers.remove(timer)
            timer[1]()


def pulse_in(loop: HandLoop, gaps: list[float]) -> Pulse:
    loop_of_any_kind: Any = loop
    return Pulse(loop_of_any_kind, lambda: gaps.append(loop.now))


def test_a_loop_that_turns_leaves_no_doubt() -> None:
    loop, gaps = HandLoop(), []
    pulse = pulse_in(loop, gaps)
    pulse.start(8.0)
    for _ in range(20):
        loop.turn(1.0)
        assert not pulse.doubtful
    assert gaps == []


@pytest.mark.shows("time.stood-still")
def test_a_pause_is_noticed_before_the_next_beat_and_told_once() -> None:
    loop, gaps = HandLoop(), []
    pulse = pulse_in(loop, gaps)
    pulse.start(8.0)
    loop.now += 5.0
    assert pulse.doubtful
    loop.turn(0.0)
    assert pulse.doubtful
    assert gaps == [5.0]
    pulse.sure()
    assert not pulse.doubtful


def test_a_worker_without_a_lease_has_no_pulse() -> None:
    loop, gaps = HandLoop(), []
    pulse = pulse_in(loop, gaps)
    pulse.start(0.0)
    loop.now += 1000.0
    assert not pulse.doubtful
    assert gaps == []


@pytest.mark.shows("time.stood-still")
async def test_what_was_granted_while_the_worker_stood_still_goes_back() -> None:
    async with at_work() as scene:
        claim = await scene.link.claims.get()
        scene.worker._pulse._last -= 1000.0  # noqa: SLF001  # as after SIGSTOP and SIGCONT
        claim.give(grant("stale", "old"))
        assert await scene.link.released.get() == {"stale": "old"}
        assert scene.doing.begun.empty()
        asked = []
        while 0 not in asked:  # it makes sure, and claims behind that
            question = await scene.link.claims.get()
            asked.append(question.what)
            question.give()
        while True:
            question = await scene.link.claims.get()
            if question.what:
                break
            question.give()
        question.give(grant("new"))
        context, _ = await scene.begun()
        assert context.grant.item_id == "new"


@pytest.mark.shows("time.stood-still")
async def test_what_was_about_to_begin_when_the_worker_stood_still_begins_when_it_has_made_sure() -> None:
    async with at_work(slots=2) as scene:
        claim = await scene.link.claims.get()
        claim.give(grant("lost", "old"), grant("kept"))
        pulse = scene.worker._pulse  # noqa: SLF001  # as above
        while not scene.worker._runs:  # noqa: ASYNC110, SLF001  # nobody tells of it
            await asyncio.sleep(0)
        pulse._last -= 1000.0  # noqa: SLF001  # as above
        question = await scene.link.claims.get()
        assert (question.what, scene.doing.begun.empty()) == (0, True)
        scene.link.push(Stop(item_id="lost", token="old", reason="fenced"))
        question.give()
        context, _ = await scene.begun()
        assert context.grant.item_id == "kept"
        assert (scene.doing.begun.empty(), scene.doing.cancelled.empty()) == (True, True)


def test_time_passes_within_a_turn_of_uvloop_too() -> None:
    async def stands_still() -> bool:
        pulse = Pulse(asyncio.get_running_loop(), lambda: None)
        pulse.start(0.01)
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass
        return pulse.doubtful

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(stands_still())
