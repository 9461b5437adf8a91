"""``run()`` and ``call()`` as talks: they give requests, take their results, and return the task's result.

A talk does no I/O, so that the shell, asynchronous or not, is the loop that sends what the talk asks for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from arriero.client import requests
from arriero.client.answers import Ended
from arriero.client.trouble import FIRST_PAUSE, LONGEST_PAUSE
from arriero.types.errors import ControlPlaneUnavailable, InvalidInput, WaitTimeout
from arriero.types.jsonvalue import encode_json

logger = logging.getLogger("arriero.client")

#: The first wait, in seconds: a task that takes longer is looked at, and what it waits for is told.
FIRST_WAIT = 5.0

T = TypeVar("T")
Talk = Generator[requests.Request[Ended | None], Ended | None, T]


def call_of(
    session_id: str,
    service: str,
    arguments: Mapping[str, Any],
    *,
    deadline: float | None = None,
    idempotency_key: str | None = None,
) -> requests.Submission:
    """The task that runs a service with these arguments. Errors: ``NotJSON``; ``InvalidInput`` for no mapping."""
    if not isinstance(arguments, Mapping):
        raise InvalidInput(
            f"the arguments of service {service!r} are a mapping from their names, not of type "
            f"{type(arguments).__name__}"
        )
    return requests.Submission(
        input=encode_json(dict(arguments), f"the input for service {service!r}").decode(),
        task_id=requests.new_task_id(session_id, idempotency_key),
        session_id=session_id,
        service_id=service,
        deadline=deadline,
    )


class Waits:
    """How long each wait of a run is, within the limit of the whole run."""

    def __init__(self, limit: float | None, longest: Callable[[], float], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._longest = longest
        self._until = None if limit is None else clock() + limit
        self._pause = 0.0
        self._asked: tuple[float, float] | None = None

    @property
    def over(self) -> bool:
        """Whether the limit of the run is reached."""
        return self._until is not None and self._clock() >= self._until

    def next(self) -> tuple[float, float]:
        """The length of the next wait, and how long to hold it back."""
        now = self._clock()
        wait, pause = self._longest(), self._hold_back(now)
        if self._asked is None:
            wait = min(wait, FIRST_WAIT)
        if self._until is not None:
            left = max(0.0, self._until - now)
            pause = min(pause, left)
            wait = min(wait, left - pause)
        self._asked = (now + pause, wait)
        return wait, pause

    def _hold_back(self, now: float) -> float:
        """A control plane that does not wait for as long as it was asked to is not pressed."""
        if self._asked is None or now - self._asked[0] >= self._asked[1] / 2:
            self._pause = 0.0
        else:
            self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self._pause))
        return self._pause


def run(
    task: requests.Submission,
    limit: float | None,
    longest_wait: Callable[[], float],
    clock: Callable[[], float] = time.monotonic,
) -> Talk[str]:
    """Submit a task and give its result as text, within ``limit`` seconds in all."""
    return (yield from ended(task, limit, longest_wait, clock)).text()


def call(
    task: requests.Submission,
    limit: float | None,
    longest_wait: Callable[[], float],
    clock: Callable[[], float] = time.monotonic,
) -> Talk[Any]:
    """Submit a task and give its result as a JSON value, within ``limit`` seconds in all."""
    return (yield from ended(task, limit, longest_wait, clock)).json()


def ended(
    task: requests.Submission, limit: float | None, longest_wait: Callable[[], float], clock: Callable[[], float]
) -> Talk[Ended]:
    """Submit a task and wait for its end, for at most ``limit`` seconds in all."""
    waits = Waits(limit, longest_wait, clock)
    wait, _ = waits.next()
    request = requests.submit_and_wait(task, wait)
    told = False
    try:
        while (end := (yield request)) is None or not end.status.is_end:
            reason = end.reason if end is not None else None
            if waits.over:
                raise _timeout(task.task_id, limit, reason)
            if reason is not None and not told:
                logger.warning("Task %s waits: %s.", task.task_id, reason)
                told = True
            wait, pause = waits.next()
            request = requests.await_end(task.session_id, task.task_id, wait, pause)
    except ControlPlaneUnavailable as error:
        error.details["task_id"] = task.task_id
        raise
    return end


def _timeout(task_id: str, limit: float | None, reason: str | None) -> WaitTimeout:
    why = f": {reason}" if reason is not None else ""
    return WaitTimeout(
        f"task {task_id} has no result after {limit:g} s (the client's timeout){why}; that does not "
        "stop it, and get_task_result() gives its result later",
        task_id=task_id,
    )
