"""The way in: one workflow, prepared once, run many at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from workflows import Workflow
from workflows.errors import WorkflowConfigurationError, WorkflowValidationError

from arriero.runtime.arguments import start_event
from arriero.runtime.public import PublicEngine
from arriero.runtime.session import SessionCodec, SessionState
from arriero.runtime.stream import OnEvent, RunStream
from arriero.types.errors import ConfigurationError
from arriero.types.handling import Handled

if TYPE_CHECKING:
    from arriero.runtime.engine import Engine
    from arriero.runtime.run import Run

logger = logging.getLogger(__name__)

#: Runs under way. A run that waits without a timer is held by nothing else, and would vanish with the next collection.
live: set[Run] = set()


class WorkflowRunner:
    """Runs a workflow.

    The workflow is made ready once: its graph is checked (:class:`ConfigurationError`), its steps are remembered, and
    the limit of 45 s that the engine sets by default, which nobody chose, is lifted. It can still be run by itself.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self._has_own_run = type(workflow).run is not Workflow.run
        try:
            self._engine = _attach(workflow)
            self._codec = SessionCodec(workflow, _declared_types(workflow))
        except (WorkflowValidationError, WorkflowConfigurationError) as error:
            raise ConfigurationError(f"workflow {type(workflow).__name__} cannot run: {error}") from error
        self._public = PublicEngine(workflow)

    async def run(
        self, arguments: Mapping[str, Any], *, run_id: str, context: str | None, on_event: OnEvent
    ) -> Handled:
        """Run once. ``context`` is what the session kept; the one that is given back is None if it stays as it is.

        ``on_event`` gets each event of the stream as a JSON object, and the name of its class, in order; the StopEvent
        comes last, when all has gone well. It must not wait; what it raises ends the run.

        Raises :class:`InvalidInput` before anything runs if the arguments do not fit, and :class:`StoreDamaged` if the
        context cannot be read; :class:`StepFailed` with the step and what it raised; :class:`TaskTimedOut` at the
        workflow's own limit; :class:`NotJSON` for a result, an event, or a value in the store that JSON cannot hold.

        Cancelled, it cancels the steps and ends when they have ended, or within a second if they refuse to.
        """
        session = SessionState(self._codec, context)
        with RunStream(on_event) as stream:
            ended = await self._run(arguments, run_id, stream, session)
            value = stream.value(ended)
            kept = await session.changed()
            stream.finish()
        return Handled(value, kept)

    async def _run(self, arguments: Mapping[str, Any], run_id: str, stream: RunStream, session: SessionState) -> Any:
        if self._has_own_run:
            return await self._public.run(arguments, stream, session)
        start = start_event(self.workflow, arguments)
        if self._engine is None:
            return await self._public.run(start, stream, session)
        run = self._engine.new_run(run_id, stream, session)
        live.add(run)
        try:
            return await self._engine.run(run, start)
        finally:
            live.discard(run)


def _attach(workflow: Workflow) -> Engine | None:
    try:
        from arriero.runtime.engine import attach
    except ImportError as error:
        logger.warning("The workflow engine is not the one expected (%s); workflows run by its public interface", error)
        return None
    return attach(workflow)


def _declared_types(workflow: Workflow) -> Iterable[type[Any]]:
    try:
        from arriero.runtime.engine import declared_types
    except ImportError:
        return ()
    return declared_types(workflow)
