"""How a run fails."""

from __future__ import annotations

from typing import Any


class StepFailed(Exception):
    """A step of a workflow raised, and its own retries are used up.

    ``cause`` is what it raised, ``step`` the step's name, ``attempts`` how often it was tried, if the engine counted.
    """

    def __init__(self, step: str, cause: BaseException, attempts: int | None = None) -> None:
        super().__init__(step, cause, attempts)
        self.step = step
        self.cause = cause
        self.attempts = attempts

    def __str__(self) -> str:
        said: Any = str(self.cause) or "no message"
        return f"step {self.step!r} failed with {type(self.cause).__name__}: {said}"
