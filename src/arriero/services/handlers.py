"""The handlers of workflows and of plain functions."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from arriero.runtime.arguments import parse_arguments
from arriero.services.faults import error_info
from arriero.services.generators import Yields
from arriero.services.threads import in_thread
from arriero.types.errors import InvalidInput, WorkflowChanged
from arriero.types.handling import Handled, HandlerContext

if TYPE_CHECKING:
    from workflows import Workflow


@dataclass(frozen=True, slots=True)
class WorkflowOptions:
    """How runs are kept: see :class:`~arriero.services.config.WorkflowServiceConfig`."""

    durability: str = "journal"
    sends: str = "transactional"
    linger: float = 1.0


class WorkflowHandler:
    """Runs a LlamaIndex workflow; the item's input is a JSON object with the arguments of the run."""

    def __init__(self, workflow: Workflow, options: WorkflowOptions = WorkflowOptions()) -> None:
        from arriero.runtime.runner import WorkflowRunner  # loads the engine, which a function does not need
        from arriero.runtime.surroundings import Durability, ItemRuns

        self._runner = WorkflowRunner(workflow)
        self._item_runs = ItemRuns
        self._keeps_context = options.durability != "none"
        self._durability = (
            Durability(transactional=options.sends == "transactional", linger=options.linger)
            if options.durability == "journal"
            else None
        )
        #: The events that the workflow takes from outside, and those of the workflows that are bound to it.
        self.accepts = self._runner.all_accepted().names
        #: Of the journals that it writes and reads; empty if it does not.
        self.shape = self._runner.ticks.shape if self._durability is not None and self._runner.ticks is not None else ""

    async def handle(self, context: HandlerContext) -> Handled:
        grant = context.grant
        arguments = parse_arguments(grant.input)
        runs = self._item_runs(context, error_info, self._durability)
        try:
            past = self._runner.read_past(grant)
        except WorkflowChanged as error:
            await context.leave((), reason=f"workflow_changed: {error}")
            raise
        if past is not None:
            runs.taken = past.taken
        has_asked = past is not None and past.has_asked
        around = runs.own(self._runner.accepted, self._runner.stop, has_asked=has_asked)
        handled = await self._runner.run(
            arguments, run_id=grant.item_id, context=grant.context, around=around, past=past
        )
        return handled if self._keeps_context else Handled(handled.value, step=handled.step, took=handled.took)


class FunctionHandler:
    """Calls a function with the arguments in the item's input; a plain function runs in a thread.

    What a generator yields are events of the stream; see :class:`~arriero.services.generators.Yields`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.accepts: dict[str, bool] = {}
        self._signature = inspect.signature(function)
        self._name = getattr(function, "__name__", type(function).__name__)
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  # an object whose call is a coroutine function
        )

    async def handle(self, context: HandlerContext) -> Handled:
        arguments = parse_arguments(context.grant.input)
        try:
            self._signature.bind(**arguments)
        except TypeError as error:
            raise InvalidInput(f"{self._name}{self._signature} was called with wrong arguments: {error}") from error
        with Yields(context) as yields:
            if self._is_async:
                value = await self._function(**arguments)
            else:
                value = await in_thread(lambda: yields.exhaust(self._function(**arguments)))
            if inspect.isasyncgen(value):
                value = await yields.exhaust_async(cast("AsyncGenerator[Any, None]", value))
        context.emit({"result": value}, "StopEvent", last=True)
        return Handled(value)
