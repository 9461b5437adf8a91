import json
from collections.abc import Generator
from typing import Any

import pytest

from arriero.client import runs
from arriero.client.answers import Ended
from arriero.client.requests import Request, Submission
from arriero.types.errors import ControlPlaneUnavailable, InvalidInput, NotJSON, TaskFailed, WaitTimeout
from arriero.types.tasks import TaskStatus

TASK = Submission(input="{}", task_id="T", session_id="S", service_id="svc")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Steps = Generator[Request[Ended | None], Ended | None, str]


def talk(clock: Clock, limit: float | None = 120.0, longest: float = 30.0) -> Steps:
    return runs.run(TASK, limit, lambda: longest, clock)


def result_of(steps: Steps, ended: Ended | None) -> str:
    with pytest.raises(StopIteration) as stop:
        steps.send(ended)
    text: str = stop.value.value
    return text


def test_a_run_is_one_request_when_its_result_comes_in_time(clock: Clock) -> None:
    steps = talk(clock)
    request = next(steps)
    assert (request.method, request.target, request.wait) == ("POST", "/sessions/S/tasks?wait=5", 5.0)
    assert result_of(steps, Ended("T", result="hello")) == "hello"


def test_it_goes_on_waiting_until_its_limit_and_no_longer(clock: Clock) -> None:
    steps = talk(clock, limit=70.0)
    waits = [next(steps).wait]
    for wait in (5.0, 30.0, 30.0):
        clock.now += wait
        waits.append(steps.send(None).wait)
    clock.now += 5.0
    with pytest.raises(WaitTimeout) as caught:
        steps.send(None)
    assert waits == [5.0, 30.0, 30.0, 5.0]
    for part in ("T", "70 s", "timeout"):
        assert part in str(caught.value)
    assert caught.value.details == {"task_id": "T"}
    assert isinstance(caught.value, TimeoutError)


def test_what_the_task_waits_for_is_told_once_and_is_the_reason_of_the_timeout(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Ended("T", TaskStatus.QUEUED, reason="no worker of service 'svc' is connected")
    steps = talk(clock, limit=60.0)
    next(steps)
    for wait in (5.0, 30.0):
        clock.now += wait
        steps.send(waiting)
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", f"Task T waits: {waiting.reason}.")
    clock.now += 30.0
    with pytest.raises(WaitTimeout, match=r"60 s .*: no worker of service 'svc' is connected; that does not stop it"):
        steps.send(waiting)


def test_without_a_limit_it_waits_for_ever(clock: Clock) -> None:
    steps = talk(clock, limit=None)
    next(steps)
    for _ in range(1000):
        clock.now += 30.0
        assert steps.send(None).wait == 30.0
    assert result_of(steps, Ended("T", result="at last")) == "at last"


def test_a_limit_of_zero_asks_once(clock: Clock) -> None:
    steps = talk(clock, limit=0.0)
    assert next(steps).wait == 0.0
    with pytest.raises(WaitTimeout):
        steps.send(None)


def test_a_control_plane_that_does_not_wait_is_not_pressed(clock: Clock) -> None:
    steps = talk(clock)
    next(steps)
    pauses = [steps.send(None).pause for _ in range(7)]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    clock.now += 31.0
    assert steps.send(None).pause == 0.0


def test_pauses_stay_within_the_limit(clock: Clock) -> None:
    steps = talk(clock, limit=0.02)
    next(steps)
    request = steps.send(None)
    assert request.pause == pytest.approx(0.02)
    assert request.wait == 0.0


def test_a_task_that_failed_raises_its_error(clock: Clock) -> None:
    steps = talk(clock)
    next(steps)
    with pytest.raises(TaskFailed) as caught:
        steps.send(Ended("T", TaskStatus.FAILED))
    assert caught.value.task_id == "T"


def test_an_unreachable_control_plane_leaves_the_id_of_the_task_to_ask_for_later(clock: Clock) -> None:
    steps = talk(clock)
    next(steps)
    with pytest.raises(ControlPlaneUnavailable) as caught:
        steps.throw(ControlPlaneUnavailable("nobody there"))
    assert caught.value.details["task_id"] == "T"


def test_a_call_is_a_task_with_an_id_of_its_own_and_its_arguments_as_json() -> None:
    first, second = (runs.call_of("S", "svc", {"a": [1, None, "ü"], "b": {"c": (1.5,)}}) for _ in range(2))
    assert first.task_id != second.task_id
    assert (first.session_id, first.service_id) == ("S", "svc")
    assert json.loads(first.input) == {"a": [1, None, "ü"], "b": {"c": [1.5]}}


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [object(), b"bytes", float("nan"), float("inf"), "\ud800", CYCLE, {("a", "b"): 1}, type, 10**5000],
    ids=["object", "bytes", "nan", "infinity", "surrogate", "cycle", "tuple-key", "class", "long-int"],
)
def test_arguments_that_are_not_json_are_refused(value: Any) -> None:
    with pytest.raises(NotJSON, match="service 'svc'"):
        runs.call_of("S", "svc", {"a": value})


@pytest.mark.parametrize("arguments", ["text", ["a"], 3])
def test_arguments_without_names_are_refused(arguments: Any) -> None:
    with pytest.raises(InvalidInput, match="'svc' are a mapping"):
        runs.call_of("S", "svc", arguments)
