"""The seam under the workflow engine: all that its public interface does not promise, and nothing else.

Written against llama-index-workflows 2.26. What it gains in a run of one empty step: the engine looks up the steps of
a workflow by `inspect.getmembers` four times a run, which are remembered here; it makes a handler, a context and two
tasks for whoever follows the run from outside, which are not needed here; and it builds spans and their events when
nobody listens to them. Where the engine is not the one expected, all still works by its public interface, only slower.
"""

# ruff: noqa: SLF001  # this module is where the engine's inside is known, so that no other has to

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import Dispatcher, active_instrument_tags, instrument_tags
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler
from workflows import Context, Workflow
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.events import StartEvent, StopEvent
from workflows.plugins.basic import BasicRuntime
from workflows.runtime.control_loop import control_loop
from workflows.runtime.runtime_decorators import BaseRuntimeDecorator
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.plugin import (
    ExternalRunAdapter,
    InternalRunAdapter,
    RegisteredWorkflow,
    RunContext,
    run_context,
)

from arriero.runtime.journal import RunJournal
from arriero.runtime.past import Past
from arriero.runtime.run import Run
from arriero.runtime.session import SessionState
from arriero.runtime.stream import RunStream

logger = logging.getLogger(__name__)

EXPECTED = "2.26."
#: What is used of a workflow beyond its documented names.
NEEDED = (
    "_broker_config",
    "_dispatcher",
    "_get_steps",
    "_num_concurrent_runs",
    "_runtime",
    "_step_functions_version",
    "_timeout",
    "_validate",
)

_DEFAULT_TIMEOUT = getattr(inspect.signature(Workflow.__init__).parameters.get("timeout"), "default", None)
_REGISTERED = "_arriero_registered"
_RUN_DISPATCHER = get_dispatcher("workflows.runtime.types.step_function")

# A reference that does not hold: contexts are copied into every timer and task that a step leaves behind.
_current: ContextVar[weakref.ref[Run] | None] = ContextVar("arriero_run", default=None)


def attach(workflow: Workflow) -> Engine | None:
    """Make ready to run a workflow by its control loop; None if the engine, or its runtime, is not the one expected."""
    lift_default_timeout(workflow)
    missing = [name for name in NEEDED if not hasattr(workflow, name)]
    if missing or not version("llama-index-workflows").startswith(EXPECTED):
        found = f"lacks {', '.join(missing)}" if missing else f"is version {version('llama-index-workflows')}"
        logger.warning("The workflow engine %s; workflows run by its public interface, which is slower", found)
        return None
    remember_steps(workflow)
    return Engine(workflow) if _install(workflow) else None


def remember_steps(workflow: Workflow) -> None:
    """Look the steps up once, and again only after `add_step`."""
    if "_get_steps" in vars(workflow):
        return
    look_up = workflow._get_steps
    seen, steps = -1, look_up()

    def remembered() -> dict[str, Any]:
        nonlocal seen, steps
        if seen != type(workflow)._step_functions_version:
            steps, seen = look_up(), type(workflow)._step_functions_version
        return steps

    workflow._get_steps = remembered  # type: ignore[method-assign]  # the instance's own stands before its class's


def lift_default_timeout(workflow: Workflow) -> None:
    """Take away the limit of 45 s that nobody chose.

    An explicit 45.0 is told from the default by identity: it is another object, unless the interpreter shares equal
    constants between modules, as free-threaded builds do. Then it counts as not chosen; 45 as an integer never does.
    """
    if getattr(workflow, "_timeout", None) is _DEFAULT_TIMEOUT:
        workflow._timeout = None
        workflow._broker_config = None


def declared_types(workflow: Workflow) -> Iterable[type[Any]]:
    """The classes that the serializer given to the workflow allows by themselves, not by a name to import."""
    serializer: BaseSerializer | None = workflow.serializer
    return serializer._registered_types.values() if isinstance(serializer, JsonSerializer) else ()


class Engine:
    """Runs one workflow, many times at once, each run within the task of its caller."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        most = workflow._num_concurrent_runs
        self._limit = asyncio.Semaphore(most) if most is not None else nullcontext()
        self._dispatcher = _quieten(workflow)
        workflow._validate()

    def new_run(self, run_id: str, stream: RunStream, session: SessionState, journal: RunJournal | None = None) -> Run:
        return Run(self._workflow, run_id, stream, session, journal)

    async def run(self, run: Run, start: StartEvent | None, past: Past | None = None) -> StopEvent:
        """Run until the end, from a start event or on from a past; nothing of it is at work afterwards.

        Raises what the engine raises.
        """
        self._workflow._validate()
        token = _current.set(weakref.ref(run))
        try:
            async with self._limit:
                run.begin(past)
                return await self._go(run, start, past)
        finally:
            _current.reset(token)
            await run.end()

    async def _go(self, run: Run, start: StartEvent | None, past: Past | None) -> StopEvent:
        workflow = self._workflow
        registered = workflow._runtime.get_or_register(workflow)
        state = BrokerState.from_workflow(workflow) if past is None else past.broker
        if _heard(_RUN_DISPATCHER) or _heard(self._dispatcher):
            tags = {**active_instrument_tags.get(), "llamaindex.run_id": run.run_id}
            with instrument_tags(tags):
                captured = get_dispatcher().capture_propagation_context()
                return await registered.workflow_run_fn(state, start, captured)
        context: Context = Context._create_internal(workflow)
        adapter = workflow._runtime.get_internal_adapter(workflow)
        with run_context(RunContext(workflow, adapter, context, registered.steps)):
            return await control_loop(start, state, run.run_id)


class _Runtime(BaseRuntimeDecorator):
    """The basic runtime, with our runs beside those that are started on the workflow itself."""

    def get_registered(self, workflow: Workflow) -> RegisteredWorkflow:
        # Kept on the workflow, which it refers to: kept here, it would outlive it where workflows share a runtime.
        version = type(workflow)._step_functions_version
        kept: tuple[int, RegisteredWorkflow] | None = vars(workflow).get(_REGISTERED)
        if kept is None or kept[0] != version:
            kept = version, self._decorated.register(workflow)
            setattr(workflow, _REGISTERED, kept)
        return kept[1]

    def get_internal_adapter(self, workflow: Workflow) -> InternalRunAdapter:
        current = _current.get()
        run = current() if current is not None else None
        return run if run is not None and run.workflow is workflow else self._decorated.get_internal_adapter(workflow)

    def run_workflow(self, run_id: str, workflow: Workflow, *args: Any, **kwargs: Any) -> ExternalRunAdapter:
        # A step may run its own workflow again: what that starts is not our run.
        token = _current.set(None)
        try:
            return self._decorated.run_workflow(run_id, workflow, *args, **kwargs)
        finally:
            _current.reset(token)


def _install(workflow: Workflow) -> bool:
    """Put our runtime over the basic one, under whatever decorates it; False if another kind of runtime is there."""
    holder: Any = workflow
    name = "_runtime"
    while isinstance(runtime := getattr(holder, name), BaseRuntimeDecorator):
        if isinstance(runtime, _Runtime):
            return True
        holder, name = runtime, "_decorated"
    if type(runtime) is not BasicRuntime:
        return False
    setattr(holder, name, _Runtime(runtime))
    return True


def _quieten(workflow: Workflow) -> Dispatcher:
    """Have the workflow's spans made only while someone listens; gives its true dispatcher."""
    found: Any = workflow._dispatcher
    if isinstance(found, _QuietDispatcher):
        return found.loud
    workflow._dispatcher = _QuietDispatcher(found)  # type: ignore[assignment]  # has what is used of a dispatcher
    return found  # type: ignore[no-any-return]  # the engine's own


class _QuietDispatcher:
    """Makes no spans while nobody listens to them."""

    def __init__(self, loud: Dispatcher) -> None:
        self.loud = loud

    def span(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What the engine calls next is this: the step."""
        reference = _current.get()
        run = reference() if reference is not None else None
        spanned = self.loud.span(function) if _heard(self.loud) else function
        return spanned if run is None else run.when_sure(spanned)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loud, name)


def _heard(dispatcher: Dispatcher) -> bool:
    while True:  # asked three times a run: a generator for each list would take twice as long
        for span_handler in dispatcher.span_handlers:
            if type(span_handler) is not NullSpanHandler:
                return True
        for event_handler in dispatcher.event_handlers:
            if type(event_handler) is not NullEventHandler:
                return True
        if not dispatcher.propagate:
            return False
        dispatcher = dispatcher.parent
