"""Calls of other services from a step: the object that stands for one there, and the children of a run."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Generator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from workflows import Context, Workflow
from workflows.events import StartEvent

from arriero.runtime.steps import StepNow, step_now
from arriero.runtime.surroundings import Surroundings, here
from arriero.types.errors import ConfigurationError, InvalidInput, TaskError, TaskFailed, TooDeep, UnknownService
from arriero.types.jsonvalue import encode_json, to_json_value

if TYPE_CHECKING:
    from arriero.runtime.runner import WorkflowRunner

#: How many runs of bound workflows may lie in one another within one process.
DEEPEST = 32
_RUNNER = "_arriero_runner"


class NestedService:
    """What a step is given for a workflow parameter once it is deployed: the service of that name, to be run.

    Each :meth:`run` is decided by itself: the service, if it is known; else the bound workflow, in this process; else
    ``UnknownService``.
    """

    def __init__(self, service: str, bound: Workflow | None) -> None:
        self.service = service
        self._bound = bound

    def __repr__(self) -> str:
        return f"<the service {self.service!r} as a workflow>"

    def run(self, ctx: Context[Any] | None = None, start_event: StartEvent | None = None, **arguments: Any) -> ChildRun:
        """Start a child; awaited, it gives the result as a JSON value.

        Awaiting it raises ``TaskFailed``, ``TaskCancelled``, ``TaskTimedOut`` or ``TaskDead`` as the child ended,
        ``UnknownService``, or ``TooDeep``. Cancelling what awaits it ends the waiting.
        """
        if ctx is not None or "run_id" in arguments:
            raise InvalidInput(
                f"{self.service!r} is a service, which has contexts and ids of its own: leave ctx and run_id"
            )
        around = here()
        if around is None:
            raise ConfigurationError(f"{self.service!r} can be called while the run goes on, not after it or beside it")
        if around.calls is None:
            around.calls = Calls(around)
        given = fields_of_event(start_event) if start_event is not None else arguments
        return around.calls.start(self.service, self._bound, to_json_value(given, f"the input of {self.service!r}"))


class ChildRun(Awaitable[Any]):
    """A child under way."""

    def __init__(self, service: str, task: asyncio.Task[Any]) -> None:
        self._service = service
        self._task = task

    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()

    def is_done(self) -> bool:
        return self._task.done()

    def stream_events(self, expose_internal: bool = False) -> AsyncIterator[Any]:
        """Not to be had here: the child's events are in the stream of the task, under its path."""
        raise ConfigurationError(
            f"the events of {self._service!r} cannot be read in the step that calls it; they are in the stream of the "
            "task, under the path of the service, where its readers see them"
        )


class _Asked(NamedTuple):
    """One call among those of the same work: the ordinal counts equal ones."""

    service: str
    input: bytes
    ordinal: int


class _Work:
    """The calls of one step's work, which the engine may do again from its beginning."""

    def __init__(self) -> None:
        self.invocation = ""
        self.counts: dict[tuple[str, bytes], int] = {}
        self.children: dict[_Asked, asyncio.Task[Any]] = {}


class Calls:
    """The children of one run.

    A step that waits for an event, or that is tried again, is done again from its beginning: its calls are then the
    same children as before, unless these did not succeed.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._is_over = False
        self._works: dict[str, _Work] = {}
        self._scope_of: dict[str, str] = {}
        #: The children under way, and the try of a step that each was started by.
        self.open: dict[asyncio.Task[Any], str] = {}
        #: Those of them that are runs of bound workflows in this process.
        self.runs: list[Surroundings] = []

    @property
    def remote(self) -> int:
        """How many of them are with a service."""
        return len(self.open) - len(self.runs)

    @property
    def steps(self) -> int:
        """How many steps have children under way."""
        return len(set(self.open.values()))

    def start(self, service: str, bound: Workflow | None, arguments: dict[str, Any]) -> ChildRun:
        if self._is_over:
            raise ConfigurationError(f"the run is over, and {service!r} can no longer be called")
        now = step_now()
        work = self._work(now)
        kind = (service, hashlib.blake2b(encode_json(arguments, "the input"), digest_size=16).digest())
        work.counts[kind] = work.counts.get(kind, 0) + 1
        asked = _Asked(*kind, work.counts[kind])
        child = work.children.get(asked)
        if child is None or (child.done() and (child.cancelled() or child.exception() is not None)):
            call = self._call(bound, arguments, asked, self._around.scope + self._around.name_of(now))
            child = asyncio.get_running_loop().create_task(call, name=f"call of {service}")
            work.children[asked] = child
            self.open[child] = now.invocation if now is not None else ""
            child.add_done_callback(self._ended)
        return ChildRun(service, child)

    def done(self, invocation: str) -> None:
        """This try at a step's work was the last."""
        scope = self._scope_of.pop(invocation, None)
        if scope is not None:
            self._works.pop(scope, None)

    async def end(self) -> None:
        """Wait for no child any more; what runs in this process has ended then."""
        self._is_over = True
        left = list(self.open)
        for child in left:
            child.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _work(self, now: StepNow | None) -> _Work:
        scope = self._around.name_of(now)
        work = self._works.setdefault(scope, _Work())
        if now is not None and work.invocation != now.invocation:
            self._scope_of.pop(work.invocation, None)
            self._scope_of[now.invocation] = scope
            work.invocation = now.invocation
            work.counts.clear()
        return work

    async def _call(self, bound: Workflow | None, arguments: dict[str, Any], asked: _Asked, scope: str) -> Any:
        context = self._around.item.context
        if not self._around.path:
            await self._around.item.keep()
        try:
            return await context.call(asked.service, arguments, scope=scope, patient=bound is None)
        except UnknownService:
            if bound is None:
                raise
        return await self._run_here(bound, arguments, asked, scope)

    async def _run_here(self, bound: Workflow, arguments: Mapping[str, Any], asked: _Asked, scope: str) -> Any:
        around, service = self._around, asked.service
        if around.depth >= DEEPEST:
            raise TooDeep(
                f"{service!r} would run {around.depth + 1} workflows deep; the limit is {DEEPEST}", limit=DEEPEST
            )
        runner = runner_of(bound)
        # What it calls in its turn is told from what its twin calls, which differs in its input or its ordinal.
        below = around.item.below(around, runner.accepted, runner.stop, service)
        below.scope = f"{scope}/{service}.{asked.input.hex()}.{asked.ordinal}/"
        self.runs.append(below)
        try:
            handled = await runner.run(arguments, run_id=f"{around.run_id}/{service}", context=None, around=below)
        except TaskError:
            raise
        except Exception as error:
            info = around.item.describe(error)
            raise TaskFailed(info.message, error=info) from error
        finally:
            self.runs.remove(below)
        return handled.value

    def _ended(self, child: asyncio.Task[Any]) -> None:
        del self.open[child]
        self._around.item.rest()


def fields_of_event(event: StartEvent) -> dict[str, Any]:
    """The arguments from which an equal event can be made."""
    return {**{name: getattr(event, name) for name in type(event).model_fields}, **event.to_dict()}


def runner_of(workflow: Workflow) -> WorkflowRunner:
    """The one runner of a bound workflow."""
    from arriero.runtime.runner import WorkflowRunner

    runner: WorkflowRunner | None = vars(workflow).get(_RUNNER)
    if runner is None:
        runner = WorkflowRunner(workflow)
        setattr(workflow, _RUNNER, runner)
    return runner
