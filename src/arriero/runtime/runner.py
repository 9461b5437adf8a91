"""The way in: one workflow, prepared once, run many at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from workflows import Workflow
from workflows.errors import WorkflowConfigurationError, WorkflowValidationError
from workflows.events import InputRequiredEvent

from arriero.runtime.arguments import start_event
from arriero.runtime.mentions import mentioned
from arriero.runtime.outside import Accepted, types_from_outside
from arriero.runtime.public import PublicEngine
from arriero.runtime.session import SessionCodec, SessionState
from arriero.runtime.stream import OnEvent, RunStream
from arriero.runtime.surroundings import Surroundings, leave
from arriero.types.errors import ConfigurationError, StoreDamaged
from arriero.types.handling import Handled
from arriero.types.link import Grant

if TYPE_CHECKING:
    from arriero.runtime.engine import Engine
    from arriero.runtime.journal import RunJournal
    from arriero.runtime.past import Past
    from arriero.runtime.run import Run
    from arriero.runtime.ticks import TickCodec

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
        _adopt(workflow)
        self._has_own_run = type(workflow).run is not Workflow.run
        try:
            self._engine = _attach(workflow)
            self._codec = codec_of(workflow)
            #: The events that this workflow takes from outside.
            types = types_from_outside(workflow, _declared_types(workflow))
            self.accepted = Accepted(types, ask_first=_gives_a_question(workflow))
        except (WorkflowValidationError, WorkflowConfigurationError) as error:
            raise ConfigurationError(f"workflow {type(workflow).__name__} cannot run: {error}") from error
        self._public = PublicEngine(workflow)
        #: Writes the journals of runs, where the engine is the one expected.
        self.ticks = _ticks(workflow, self._codec) if self._engine is not None and not self._has_own_run else None
        #: The name of the event that ends a run.
        self.stop = workflow.stop_event_class.__name__

    def all_accepted(self) -> Accepted:
        """The events that it takes from outside, and those of the workflows that are bound to it, at any depth."""
        found: dict[int, Workflow] = {}
        left = [self.workflow]
        while left:
            workflow = left.pop()
            if id(workflow) not in found:
                found[id(workflow)] = workflow
                left.extend(_bound(workflow))
        return Accepted(cls for each in found.values() for cls in types_from_outside(each, _declared_types(each)))

    async def run(
        self,
        arguments: Mapping[str, Any],
        *,
        run_id: str,
        context: str | None,
        on_event: OnEvent | None = None,
        around: Surroundings | None = None,
        past: Past | None = None,
    ) -> Handled:
        """Run once. ``context`` is what the session kept; the one that is given back is None if it stays as it is.

        ``around`` is what the run may use of the world, the stream first of all. Where there is none, the run has no
        children and nothing comes from outside; ``on_event`` then gets each event of the stream as a JSON object, and
        the name of its class, in order. The StopEvent comes last, when all has gone well. Neither must wait; what they
        raise ends the run. With ``past`` it goes on where that ended.

        Raises :class:`InvalidInput` before anything runs if the arguments do not fit, and :class:`StoreDamaged` if the
        context cannot be read; :class:`StepFailed` with the step and what it raised; :class:`TaskTimedOut` at the
        workflow's own limit; :class:`NotJSON` for a result, an event, or a value in the store that JSON cannot hold.

        Cancelled, it cancels the steps and its children, and ends when they have ended, or within a second if they
        refuse to.
        """
        stream = RunStream(around.emit if around is not None else on_event or _unread, around)
        token = around.enter() if around is not None else None
        try:
            session = SessionState(self._codec, context)
            if past is not None and past.state is not None:
                session.resume(past.state)
            with stream:
                ended = await self._run(arguments, run_id, stream, session, past)
                value = stream.value(ended)
                kept = await session.changed()
                if around is not None:
                    around.conclude()
                stream.finish()
            journal = around.item.journal if around is not None and not around.path else None
            return Handled(value, kept, *(journal.last_step() if journal is not None else ()))
        finally:
            if around is not None:
                leave(token)
                around.end()
                if around.calls is not None:
                    await around.calls.end()

    async def _run(
        self,
        arguments: Mapping[str, Any],
        run_id: str,
        stream: RunStream,
        session: SessionState,
        past: Past | None,
    ) -> Any:
        if self._has_own_run:
            return await self._public.run(arguments, stream, session)
        start = start_event(self.workflow, arguments) if past is None else None
        if self._engine is None:
            assert start is not None  # without the engine nothing keeps a journal
            return await self._public.run(start, stream, session)
        around = stream.around
        run = self._engine.new_run(run_id, stream, session, self._journal_of(stream, session, past))
        if around is not None:
            around.attach(run_id, run.put, lambda: run.at_work)
            if around.item.leaving is not None and not around.path:
                run.on_pause = around.item.leaving.pauses
        live.add(run)
        try:
            return await self._engine.run(run, start, past)
        finally:
            live.discard(run)
            if around is not None and around.item.leaving is not None and not around.path:
                await around.item.leaving.end()

    def _journal_of(self, stream: RunStream, session: SessionState, past: Past | None) -> RunJournal | None:
        """The journal of an item's own run; what runs below it in this process has none."""
        around = stream.around
        if around is None or around.path or around.item.durability is None or self.ticks is None:
            return None
        from arriero.runtime.journal import RunJournal
        from arriero.runtime.leaving import Leaving

        item = around.item
        kind = item.durability
        assert kind is not None  # asked above
        item.journal = RunJournal(self.ticks, item.context, session, past, transactional=kind.transactional)
        item.leaving = Leaving(item.context, item.journal, kind.linger, stream.break_off)
        return item.journal

    def read_past(self, grant: Grant) -> Past | None:
        """What the journal of an item says; None if it has none. Errors: ``WorkflowChanged``, ``StoreDamaged``."""
        if not grant.journal:
            return None
        if self.ticks is None:
            raise StoreDamaged("the run has a journal, which this version of the workflow engine cannot go on from")
        from arriero.runtime.resume import read_past

        return read_past(self.workflow, self.ticks, grant.journal, grant.shape, grant.item_id)


def codec_of(workflow: Workflow) -> SessionCodec:
    """What writes and reads what a workflow keeps."""
    return SessionCodec(workflow, _declared_types(workflow))


def _adopt(workflow: Workflow) -> None:
    try:
        from arriero.runtime.nested import adopt_steps
    except ImportError as error:
        logger.warning("The workflow engine is not the one expected (%s); its steps are given no other services", error)
    else:
        adopt_steps(workflow)


def _bound(workflow: Workflow) -> Iterable[Workflow]:
    try:
        from arriero.runtime.nested import bound_workflows
    except ImportError:
        return ()
    return bound_workflows(workflow).values()


def _unread(data: dict[str, Any], name: str) -> None:
    """Nobody reads the stream."""


def _gives_a_question(workflow: Workflow) -> bool:
    """Whether a step says in its signature that it does."""
    try:
        from arriero.runtime.steps import steps_of
    except ImportError:
        return False
    configs = (vars(step)["_step_config"] for step in steps_of(workflow))  # set by its decorator
    given = (cls for config in configs for cls in config.return_types)
    return any(isinstance(cls, type) and issubclass(cls, InputRequiredEvent) for cls in given)


def _attach(workflow: Workflow) -> Engine | None:
    try:
        from arriero.runtime.engine import attach
    except ImportError as error:
        logger.warning("The workflow engine is not the one expected (%s); workflows run by its public interface", error)
        return None
    return attach(workflow)


def _ticks(workflow: Workflow, codec: SessionCodec) -> TickCodec:
    from arriero.runtime.ticks import TickCodec

    return TickCodec(workflow, codec.serializer)


def _declared_types(workflow: Workflow) -> Iterable[type[Any]]:
    """The classes that its serializer allows, and those that its code names."""
    try:
        from arriero.runtime.engine import declared_types
        from arriero.runtime.steps import steps_of
    except ImportError:
        return ()
    return {**dict.fromkeys(declared_types(workflow)), **dict.fromkeys(mentioned(workflow, steps_of(workflow)))}
