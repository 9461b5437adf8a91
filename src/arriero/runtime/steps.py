"""The seam under the engine's steps: what a step is given beside its event, and which step is at work.

Like :mod:`arriero.runtime.engine`, written against llama-index-workflows 2.26, and kept small for that reason.
"""

# ruff: noqa: SLF001  # this module is where the engine's inside is known, so that no other has to

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from workflows import Context, Workflow
from workflows.decorators import _apply_step_decorator
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event
from workflows.resource import ResourceDefinition, ResourceManager, _Resource
from workflows.runtime.types.results import StepWorkerStateContextVar

from arriero.types.errors import NotJSON
from arriero.types.jsonvalue import encode_json, to_json_value

#: The engine's step decorator with the namespace in which annotations written as text are looked up.
decorate = _apply_step_decorator

_PARAMETERS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_COUNTS = "_arriero_counts"


class StepNow(NamedTuple):
    """The step that is at work: of which workflow and run, and on what.

    ``scope`` names its work, the same after a resume; ``invocation`` this try at it.
    """

    workflow: Workflow
    run_id: str
    scope: str
    invocation: str


def step_now() -> StepNow | None:
    """The step in which this is called, if it is one."""
    try:
        face: Any = Context.get_step_context()._face
        state = StepWorkerStateContextVar.get().state
    except (WorkflowRuntimeError, LookupError):
        return None
    scope = f"{state.step_name}:{state.work_item_id}"
    return StepNow(face._workflow, face._internal_adapter.run_id, scope, str(state.invocation_id))


def counts_of_try() -> dict[str, int]:
    """Counts that belong to this try at the step's work: the next one begins anew."""
    found: dict[str, int] = vars(StepWorkerStateContextVar.get()).setdefault(_COUNTS, {})
    return found


def input_of_try() -> str:
    """A digest of what the step at work was given; of its class alone where it is nothing that JSON can hold."""
    given = StepWorkerStateContextVar.get()
    collected = given.state.collection_release_payload
    events = [given.event, *(collected.events if collected is not None else ())]
    try:
        text = encode_json([_fields(event) for event in events], "the events of a step")
    except NotJSON:
        text = "/".join(type(event).__name__ for event in events).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _fields(event: Event) -> Any:
    return to_json_value([type(event).__name__, event.model_dump(), event.to_dict()], "the event of a step")


def steps_of(workflow: Workflow) -> Iterator[Callable[..., Any]]:
    """The functions of a workflow's steps."""
    return (getattr(step, "__func__", step) for step in workflow._get_steps().values())


def is_step(function: Any) -> bool:
    return hasattr(function, "_step_config")


def resources_of(step: Callable[..., Any]) -> list[ResourceDefinition]:
    """What the engine supplies to the step's parameters beside events and context. The list is the engine's own."""
    found: list[ResourceDefinition] = step._step_config.resources  # type: ignore[attr-defined]  # set by its decorator
    return found


def unsupplied(step: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """The parameters that the engine knows nothing of; it calls steps by the names of their parameters."""
    config: Any = step._step_config  # type: ignore[attr-defined]  # set by its decorator
    known = {"self", "cls", config.event_name, config.context_parameter}
    known.update(name for name, _ in config.collect_params or ())
    known.update(each.name for each in config.resources)
    for parameter in inspect.signature(step).parameters.values():
        if parameter.name not in known and parameter.kind in _PARAMETERS:
            yield parameter


class Supplied(_Resource[Any]):
    """A resource of the engine that is asked for anew by each step, and given without waiting."""

    def __init__(self) -> None:
        # Not the engine's `__init__`: there the name is fixed, and one that two runs share is given to both.
        self.cache = False
        self._factory = self.supply  # one of its own, by which drawings of a workflow tell resources apart
        self._is_async = False
        self._localns = None

    @property
    def name(self) -> str:  # type: ignore[override]  # read only, see above
        raise NotImplementedError

    def supply(self) -> Any:
        """The value for the step that is about to begin."""
        raise NotImplementedError

    async def resolve(self, manager: ResourceManager) -> Any:
        return self.supply()
