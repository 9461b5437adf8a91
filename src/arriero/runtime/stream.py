"""What a run publishes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel
from workflows.errors import WorkflowTimeoutError
from workflows.events import (
    IdleReleasedEvent,
    InputRequiredEvent,
    InternalDispatchEvent,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)

from arriero.runtime.failures import StepFailed
from arriero.runtime.outside import Held
from arriero.runtime.surroundings import Surroundings
from arriero.types.errors import NotJSON, TaskTimedOut
from arriero.types.jsonvalue import to_json_value

if TYPE_CHECKING:
    from arriero.runtime.children import Calls

OnEvent = Callable[[dict[str, Any], str], None]

#: How the engine says that a run ended without a result: known to us as an error, not shown as an event.
ENDINGS = (WorkflowFailedEvent, WorkflowTimedOutEvent, WorkflowCancelledEvent, IdleReleasedEvent)


class RunStream:
    """The events of one run: the workflow's own go on as JSON, in order; the engine's say how it goes on and ended.

    The last one, a StopEvent, goes on when :meth:`finish` is called, for until then the run may still fail. What cannot
    go on is the run's ``fault``: it is kept, and ``on_fault`` called, once. As a context manager, a stream turns what
    the engine raises into the error to raise.
    """

    def __init__(self, on_event: OnEvent, around: Surroundings | None = None) -> None:
        self._on_event = on_event
        self.around = around
        self.on_fault: Callable[[], object] = nothing
        self.fault: BaseException | None = None
        self._failed: WorkflowFailedEvent | None = None
        self._timed_out: WorkflowTimedOutEvent | None = None
        self._stop: tuple[StopEvent, dict[str, Any]] | None = None

    @property
    def calls(self) -> Calls | None:
        """The children of the run, if it has any."""
        return self.around.calls if self.around is not None else None

    def publish(self, event: Any, held: Held | None = None) -> None:
        """Take an event that the engine or a step published; ``held`` is the one from outside that it is about."""
        try:
            if isinstance(event, InternalDispatchEvent):
                if self.around is not None:
                    self.around.note(event, held)
            elif isinstance(event, ENDINGS):
                self._note(event)
            else:
                self._pass_on(event)
        except Exception as error:  # noqa: BLE001  # the engine would only log it
            self.break_off(error)

    def _pass_on(self, event: Any) -> None:
        self.finish()
        data = event_data(event)
        if isinstance(event, StopEvent):
            self._stop = event, data
        elif self.around is not None and isinstance(event, InputRequiredEvent):
            self.around.ask(data, type(event).__name__)
        else:
            self._on_event(data, type(event).__name__)

    def break_off(self, fault: BaseException) -> None:
        """End the run with this error."""
        if self.fault is None:
            self.fault = fault
            self.on_fault()

    def value(self, ended: Any) -> Any:
        """The result as a JSON value: what a plain StopEvent holds, what any other one dumps, or what was returned."""
        if self.fault is not None:
            raise self.fault
        if not isinstance(ended, StopEvent):
            return to_json_value(ended, "the result of the run")
        data = self._stop[1] if self._stop is not None and self._stop[0] is ended else event_data(ended)
        return data.get("result") if type(ended) is StopEvent else data

    def finish(self) -> None:
        """Let the StopEvent go on."""
        if self._stop is not None:
            (event, data), self._stop = self._stop, None
            self._on_event(data, type(event).__name__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and (failure := self._failure(error)) is not error:
            raise failure from getattr(failure, "cause", None)

    def _failure(self, error: Exception) -> BaseException:
        if self.fault is not None:
            return self.fault
        if self._failed is not None and self._failed.exception is error:
            return StepFailed(self._failed.step_name, error, self._failed.attempts)
        if self._timed_out is not None and isinstance(error, WorkflowTimeoutError):
            return _time_limit(self._timed_out)
        return error

    def _note(self, event: StopEvent) -> None:
        if isinstance(event, WorkflowFailedEvent):
            self._failed = event
        elif isinstance(event, WorkflowTimedOutEvent):
            self._timed_out = event


def event_data(event: Any) -> dict[str, Any]:
    """An event as a JSON object, in the form of its ``model_dump``; :class:`NotJSON` names its class and the field."""
    if type(event) is StopEvent:
        result = event.result
        return {} if result is None else {"result": to_json_value(result, "the result of the run")}
    name = type(event).__name__
    if not isinstance(event, BaseModel):
        raise NotJSON(f"only events can be written to the stream of a run, not a value of type {name}", type=name)
    data: dict[str, Any] = to_json_value(event, f"event {name}")
    return data


def _time_limit(event: WorkflowTimedOutEvent) -> TaskTimedOut:
    steps = f"; still at work: {', '.join(event.active_steps)}" if event.active_steps else ""
    return TaskTimedOut(
        f"the workflow did not end within {event.timeout:g} s, its own limit, which is set by `timeout` where the "
        f"workflow is made{steps}",
        limit=event.timeout,
        setting="timeout",
        steps=event.active_steps,
    )


def nothing() -> None:
    """No one has to be told."""
