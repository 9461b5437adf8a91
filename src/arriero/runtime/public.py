"""Runs by the engine's public interface: for workflows with a `run()` or a runtime of their own, and for other engines."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from typing import Any

from workflows import Context, Workflow
from workflows.errors import WorkflowRuntimeError
from workflows.events import StartEvent
from workflows.handler import WorkflowHandler

from arriero.runtime.session import SessionState
from arriero.runtime.stream import RunStream
from arriero.types.errors import InvalidInput

logger = logging.getLogger(__name__)

#: Seconds that a run is given to end after it was cancelled: the engine waits 0.5 s for its steps.
GRACE = 1.0
#: Seconds for events that are on their way when a run has ended without a word of it in its stream.
LAST_EVENTS = 0.1
RESERVED = frozenset({"ctx", "start_event", "run_id"})

_live: set[asyncio.Task[Any]] = set()


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
        task = asyncio.create_task(self._drive(start, stream, session), name=f"run of {type(self._workflow).__name__}")
        _live.add(task)
        task.add_done_callback(_settled)
        stream.on_fault = task.cancel
        try:
            await asyncio.wait({task})
        finally:
            await self._stop(task)
        return None if stream.fault is not None else task.result()

    def _check(self, arguments: Mapping[str, Any]) -> None:
        try:
            self._signature.bind(**arguments)
        except TypeError as error:
            name = f"{type(self._workflow).__name__}.run{self._signature}"
            raise InvalidInput(f"the arguments do not fit {name}: {error}") from None
        if reserved := sorted(RESERVED & arguments.keys()):
            raise InvalidInput(f"the arguments {', '.join(reserved)} belong to the engine and cannot be given")

    async def _stop(self, task: asyncio.Task[Any]) -> None:
        if task.done():
            return
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE)
        if not task.done():
            logger.warning("The %s goes on although it was cancelled", task.get_name())

    async def _drive(self, start: StartEvent | Mapping[str, Any], stream: RunStream, session: SessionState) -> Any:
        context: Context[Any] = Context(self._workflow, serializer=session.serializer)
        if session.kept is not None:
            await context.store.set_state(session.kept)
        running = self._begin(start, context)
        value = await (self._follow(running, stream) if isinstance(running, WorkflowHandler) else running)
        session.adopt(context.store)
        return value

    def _begin(self, start: StartEvent | Mapping[str, Any], context: Context[Any]) -> Any:
        try:
            if isinstance(start, StartEvent):
                return self._workflow.run(ctx=context, start_event=start)
            given: dict[str, Any] = {"ctx": context} if self._takes_context else {}
            return self._workflow.run(**given, **start)
        except WorkflowRuntimeError as error:
            raise InvalidInput(str(error)) from error

    async def _follow(self, handler: WorkflowHandler, stream: RunStream) -> Any:
        reader = asyncio.create_task(_read(handler, stream))
        try:
            return await handler
        finally:
            await asyncio.wait({reader}, timeout=LAST_EVENTS)
            reader.cancel()
            await asyncio.wait({reader})


async def _read(handler: WorkflowHandler, stream: RunStream) -> None:
    async for event in handler.stream_events():
        stream.publish(event)


def _settled(task: asyncio.Task[Any]) -> None:
    _live.discard(task)
    if not task.cancelled():
        task.exception()  # it is raised to who waits, if anyone still does
