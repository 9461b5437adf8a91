"""Runs by the engine's public interface: for workflows with a `run()` or a runtime of their own, or another engine."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any

from workflows import Context, Workflow
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, StartEvent, UnhandledEvent
from workflows.handler import WorkflowHandler

from arriero.runtime.outside import Held
from arriero.runtime.session import SessionState
from arriero.runtime.stream import RunStream
from arriero.types.errors import InvalidInput

#: Seconds that a run is given to end when it is cancelled: the engine gives its steps 0.5 s.
GRACE = 0.7
#: Seconds for events that are on their way when a run has ended without a word of it in its stream.
LAST_EVENTS = 0.1
RESERVED = frozenset({"ctx", "start_event", "run_id"})

#: The events from outside that were sent to a run, by the name of their class.
_Sent = list[tuple[str, Held]]

#: The tasks of runs under way.
live: set[asyncio.Task[Any]] = set()


class PublicEngine:
    """Runs one workflow, many times at once, each run in a task."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._signature = inspect.signature(workflow.run)
        kinds = self._signature.parameters.values()
        self._takes_context = "ctx" in self._signature.parameters or any(p.kind is p.VAR_KEYWORD for p in kinds)

    async def run(self, start: StartEvent | Mapping[str, Any], stream: RunStream, session: SessionState) -> Any:
        """Run from a start event, or with the arguments of the workflow's own `run()`; gives what awaiting it gives."""
        if not isinstance(start, StartEvent):
            self._check(start)
        context: Context[Any] = Context(self._workflow, serializer=session.serializer)
        if session.kept is not None:
            await context.store.set_state(session.kept)
        running = self._begin(start, context)
        value = await (_follow(running, stream) if isinstance(running, WorkflowHandler) else running)
        session.adopt(context.store)
        return value

    def _check(self, arguments: Mapping[str, Any]) -> None:
        try:
            self._signature.bind(**arguments)
        except TypeError as error:
            name = f"{type(self._workflow).__name__}.run{self._signature}"
            raise InvalidInput(f"the arguments do not fit {name}: {error}") from None
        if reserved := sorted(RESERVED & arguments.keys()):
            raise InvalidInput(f"the arguments {', '.join(reserved)} belong to the engine and cannot be given")

    def _begin(self, start: StartEvent | Mapping[str, Any], context: Context[Any]) -> Any:
        try:
            if isinstance(start, StartEvent):
                return self._workflow.run(ctx=context, start_event=start)
            given: dict[str, Any] = {"ctx": context} if self._takes_context else {}
            return self._workflow.run(**given, **start)
        except WorkflowRuntimeError as error:
            raise InvalidInput(str(error)) from error


async def _follow(handler: WorkflowHandler, stream: RunStream) -> Any:
    sent: _Sent = []
    if stream.around is not None:
        stream.around.attach(handler.run_id, partial(_send, handler, sent), None)
    result = _held(_result(handler))
    reader = _held(_read(handler, stream, sent))
    try:
        await asyncio.wait({result, reader}, return_when=asyncio.FIRST_COMPLETED)
        if stream.fault is None:
            await asyncio.wait({result})
            await asyncio.wait({reader}, timeout=LAST_EVENTS)
    finally:
        reader.cancel()
        if not result.done():
            # The engine's own way to cancel: it loses tasks if it is cancelled from outside while it waits.
            await asyncio.wait({_held(handler.cancel_run(timeout=GRACE))}, timeout=GRACE)
            result.cancel()
        await asyncio.wait({reader, result}, timeout=LAST_EVENTS)
    return None if stream.fault is not None else result.result()


async def _result(handler: WorkflowHandler) -> Any:
    return await handler


async def _read(handler: WorkflowHandler, stream: RunStream, sent: _Sent) -> None:
    async for event in handler.stream_events(expose_internal=stream.around is not None):
        held = _matching(event, sent) if isinstance(event, UnhandledEvent) else None
        stream.publish(event, held)
        if stream.fault is not None:
            return


def _send(handler: WorkflowHandler, sent: _Sent, event: Event, held: Held) -> None:
    sent.append((f"{type(event).__module__}.{type(event).__name__}", held))
    handler.ctx.send_event(event)


def _matching(event: UnhandledEvent, sent: _Sent) -> Held | None:
    """The newest event from outside of that class: the engine says no more of it than that."""
    for entry in reversed(sent):
        if entry[0] == event.qualified_name:
            sent.remove(entry)
            return entry[1]
    return None


def _held(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.create_task(work)
    live.add(task)
    task.add_done_callback(_settled)
    return task


def _settled(task: asyncio.Task[Any]) -> None:
    live.discard(task)
    if not task.cancelled():
        task.exception()  # whoever waits for it still gets it
