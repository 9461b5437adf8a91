"""The ticks of the engine as JSON and back, and the shape of a workflow by which it is known that they still fit.

Like :mod:`arriero.runtime.engine`, written against llama-index-workflows 2.26. A tick holds events; each is written
with the name of its class, and comes back only if the workflow declares that class. Nothing is imported by a name.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from workflows import Workflow
from workflows.context.context_types import SerializedContext
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.events import Event
from workflows.runtime.control_loop.reduce import rebuild_state_from_ticks
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddCollectedEvent, AddWaiter, StepWorkerResult
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick, WorkflowTickAdapter

from arriero.types.errors import NotJSON, StoreDamaged
from arriero.types.jsonvalue import to_json_value

HINT = 'serve the workflow with durability="task" if it need not go on from its steps'

#: What the steps that wait require of an event, beside the engine's own form of its state.
_REQUIREMENTS = "requirements"


#: The events that a run has written last and how, for what one step gives is written again with the next.
Found = deque[tuple[Event, Any]]
#: So many of them are remembered: one that goes from step to step is among them, and large ones are soon let go.
REMEMBERED = 2


class TickCodec:
    """Writes and reads the ticks of one workflow; ``declared`` resolves the classes that it declares."""

    def __init__(self, workflow: Workflow, declared: BaseSerializer) -> None:
        self._workflow = workflow
        self._name = type(workflow).__name__
        self._serializer = _Ticks(declared)
        #: What the steps take and give. A journal of another shape cannot be continued.
        self.shape = shape_of(workflow)

    def write(self, tick: WorkflowTick, found: Found) -> Any:
        """A tick as a JSON value; :class:`NotJSON` names the event that would not come back as it was."""
        for event in _events(tick):
            self._check(event, found)
        dumped = tick.model_dump(mode="json")
        if isinstance(tick, TickStepResult):
            for result, written in zip(tick.result, dumped["result"], strict=True):
                if isinstance(result, AddWaiter) and result.requirements:  # which the engine leaves out
                    written["requirements"] = self._requirements(result.requirements)
        return to_json_value(dumped, f"a step of {self._name}")

    def read(self, value: Any) -> WorkflowTick:
        """Errors: ``StoreDamaged``."""
        try:
            with self._serializer.validation_context():
                return WorkflowTickAdapter.validate_python(value)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreDamaged(f"an entry in the journal of a run of {self._name} cannot be read: {error}") from error

    def fold(self, broker: BrokerState | None, ticks: Sequence[WorkflowTick], run_id: str) -> BrokerState:
        """The engine's state after these ticks."""
        broker = broker if broker is not None else BrokerState.from_workflow(self._workflow)
        return rebuild_state_from_ticks(broker, list(ticks), run_id)

    def write_broker(self, broker: BrokerState) -> Any:
        """The engine's state as a JSON value. Errors: ``NotJSON``."""
        serialized = broker.to_serialized(self._serializer)
        serialized.state = {}
        dumped = serialized.model_dump(mode="json") | {
            _REQUIREMENTS: [
                [str(step), waiter.waiter_id, self._requirements(waiter.requirements)]
                for step, worker in broker.workers.items()
                for waiter in worker.collected_waiters
                if waiter.requirements
            ]
        }
        return to_json_value(dumped, f"the state of a run of {self._name}")

    def read_broker(self, value: Any) -> BrokerState:
        """Errors: ``StoreDamaged``."""
        try:
            with self._serializer.validation_context():
                required = {(step, waiter): wanted for step, waiter, wanted in value.get(_REQUIREMENTS, ())}
                kept = {name: part for name, part in value.items() if name != _REQUIREMENTS}
                serialized = SerializedContext.from_dict_auto(kept, self._serializer)
                broker = BrokerState.from_serialized(serialized, self._workflow, self._serializer)
                for step, worker in broker.workers.items():
                    for waiter in worker.collected_waiters:
                        waiter.requirements = required.get((str(step), waiter.waiter_id), {})
                return broker
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreDamaged(f"the state of a run of {self._name} cannot be read: {error}") from error

    def _requirements(self, wanted: dict[str, Any]) -> Any:
        """What an event must say for a step that waits. What came back as another value would match nothing."""
        written = to_json_value(wanted, f"what a step of {self._name} requires of an event")
        if written != wanted:
            raise NotJSON(f"what a step of {self._name} requires of an event would not come back as it is; {HINT}")
        return written

    def _check(self, event: Event, found: Found) -> None:
        """Better that the run which writes it fails than that it cannot go on after a crash."""
        cls = type(event)
        try:
            written = event.model_dump(mode="json")
            if any(each is event and before == written for each, before in found):
                return
            self._serializer.resolve_class(f"{cls.__module__}.{cls.__qualname__}")
            again = cls.model_validate(written)
        except (ValueError, TypeError, RecursionError, ValidationError) as error:
            raise NotJSON(f"event {cls.__name__} of {self._name} cannot be kept: {error}; {HINT}") from error
        if (lost := _difference(event, again)) is not None:
            raise NotJSON(f"event {cls.__name__} of {self._name} would not come back as it is: {lost}; {HINT}")
        found.append((event, written))


class _Ticks(JsonSerializer):
    """The engine's own classes, and those that the workflow declares."""

    def __init__(self, declared: Any) -> None:
        super().__init__(allowed_types=())
        self._declared = declared

    def resolve_class(self, qualified_name: str) -> type[Any]:
        try:
            return super().resolve_class(qualified_name)
        except ValueError:
            found: type[Any] = self._declared.resolve_class(qualified_name)
            return found


def _events(tick: WorkflowTick) -> Iterator[Event]:
    """The events in a tick that a resumed run would need."""
    if isinstance(tick, TickAddEvent):
        yield tick.event
    elif isinstance(tick, TickStepResult):
        yield from (sent.event for sent in tick.sends)
        for result in tick.result:
            if isinstance(result, StepWorkerResult):
                yield from _flat(result.result)
            elif isinstance(result, AddCollectedEvent):
                yield from _flat(result.event)
            elif isinstance(result, AddWaiter):
                yield from _flat(result.waiter_event)


def _flat(result: Any) -> Iterator[Event]:
    if isinstance(result, Event):
        yield result
    elif isinstance(result, list):
        yield from (each for each in result if isinstance(each, Event))


def _difference(before: Any, after: Any, where: str = "it") -> str | None:
    """What is not the same in a copy; that tuples become lists is no difference."""
    if isinstance(before, BaseModel) and type(before) is type(after):
        dynamic = before.__pydantic_private__ or {}
        parts = {name: (getattr(before, name), getattr(after, name, None)) for name in type(before).model_fields}
        parts |= {name: (value, (after.__pydantic_private__ or {}).get(name)) for name, value in dynamic.items()}
    elif isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        parts = {str(key): (value, after[key]) for key, value in before.items()}
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple) and len(before) == len(after):
        parts = {str(number): pair for number, pair in enumerate(zip(before, after, strict=True))}
    else:
        return None if before == after else f"{where}, a {type(before).__name__}, becomes a {type(after).__name__}"
    found = (_difference(*pair, where=f"its {name!r}") for name, pair in parts.items())
    return next((each for each in found if each is not None), None)


def shape_of(workflow: Workflow) -> str:
    """A digest of the steps: their names, what they take and what they give."""
    steps = []
    for name, function in workflow._get_steps().items():  # noqa: SLF001  # the engine's one list of them
        config = function._step_config  # noqa: SLF001  # set by its decorator
        steps.append([name, _names(config.accepted_events), _names(config.return_types)])
    text = json.dumps(sorted(steps), separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _names(types: Iterable[Any]) -> list[str]:
    return sorted(getattr(cls, "__qualname__", str(cls)) for cls in types)
