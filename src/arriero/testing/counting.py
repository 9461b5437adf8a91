"""Handlers that tell of each step that begins."""

# ruff: noqa: SLF001  # only from inside can it be seen that a step begins

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from arriero.services.handlers import FunctionHandler, WorkflowHandler, WorkflowOptions
from arriero.types.clock import now
from arriero.types.handling import Handled, Handler, HandlerContext

if TYPE_CHECKING:
    from workflows import Workflow
    from workflows.runtime.types.named_task import PendingStart

#: Told the name of each step that begins; a function has one step, named like the service.
OnStep = Callable[[str], None]


def counted_workflow(workflow: Workflow, options: WorkflowOptions, on_step: OnStep) -> Handler:
    """The handler of a workflow."""
    from workflows.runtime.types.named_task import PendingWorker  # the engine, which a function does not need

    from arriero.runtime.run import Run

    class Counted(Run):
        def _start(self, pending: PendingStart) -> Any:
            if isinstance(pending, PendingWorker):
                on_step(str(pending.step_id))
                pending.coro = _Stamped(pending.coro)
            return super()._start(pending)

    handler = WorkflowHandler(workflow, options)
    engine = handler._runner._engine
    if engine is not None:
        engine.new_run = (  # type: ignore[method-assign]  # of this one engine
            lambda run_id, stream, session, journal=None: Counted(workflow, run_id, stream, session, journal)
        )
    return handler


class _Stamped(Coroutine[Any, Any, Any]):
    """A step whose failure is told with the loop's time of day; the engine notes the machine's."""

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self._coro = coro

    def send(self, value: Any) -> Any:
        try:
            return self._coro.send(value)
        except StopIteration as end:
            raise StopIteration(_restamped(end.value)) from None

    def throw(self, *raised: Any) -> Any:
        try:
            return self._coro.throw(*raised)
        except StopIteration as end:
            raise StopIteration(_restamped(end.value)) from None

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from _Steps(self))


class _Steps:
    """An iterator over what a coroutine yields."""

    def __init__(self, stamped: _Stamped) -> None:
        self.send, self.throw, self.close = stamped.send, stamped.throw, stamped.close

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self.send(None)


def _restamped(result: Any) -> Any:
    from workflows.runtime.types.results import StepWorkerFailed

    for number, each in enumerate(result.result):
        if isinstance(each, StepWorkerFailed):
            result.result[number] = each.model_copy(update={"failed_at": now()})
    return result


class CountedFunction:
    """The handler of a function."""

    def __init__(self, function: Callable[..., Any], on_step: OnStep) -> None:
        self._handler = FunctionHandler(function)
        self._on_step = on_step
        self.accepts = self._handler.accepts

    async def handle(self, context: HandlerContext) -> Handled:
        self._on_step(context.grant.service)
        return await self._handler.handle(context)
