"""One run of a workflow, as its control loop and its steps see it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from workflows import Workflow
from workflows.context.state_store import StateStore
from workflows.events import Event
from workflows.runtime.types.named_task import NamedTask, PendingStart, PendingWorker
from workflows.runtime.types.plugin import (
    InternalRunAdapter,
    WaitForNextTaskResult,
    WaitResult,
    WaitResultTick,
    WaitResultTimeout,
)
from workflows.runtime.types.results import AddWaiter, StepWorkerFailed
from workflows.runtime.types.ticks import TickAddEvent, TickCancelRun, WorkflowTick

from arriero.runtime.failures import StepFailed
from arriero.runtime.journal import RunJournal
from arriero.runtime.outside import Held
from arriero.runtime.past import Past, is_question
from arriero.runtime.session import SessionState
from arriero.runtime.stream import RunStream, nothing
from arriero.types.clock import now
from arriero.types.whole import closed_by

logger = logging.getLogger(__name__)

#: Seconds that the steps of a run which is over are given to end after they were cancelled.
GRACE = 0.5

#: What a step's result holds when the engine will, or may, do the same work again.
_TO_BE_CONTINUED = (AddWaiter, StepWorkerFailed)

#: Steps of runs that are over. They are held here, for a task that nothing holds may vanish in mid-work.
overdue: set[asyncio.Task[Any]] = set()


def _close(pending: PendingWorker, _: asyncio.Task[None]) -> None:
    # The task may have been cancelled before it began, and its step never been awaited.
    pending.coro.close()


class Run(InternalRunAdapter):
    """Events go to ``stream``, the state is that of ``session``, ticks come by :meth:`send_event`.

    Steps run in tasks of their own, and the engine is given a future for each: so a step that does not end when it is
    cancelled holds up neither the engine nor whoever waits for the run, and :meth:`end` knows of every one.
    """

    def __init__(
        self,
        workflow: Workflow,
        run_id: str,
        stream: RunStream,
        session: SessionState,
        journal: RunJournal | None = None,
    ) -> None:
        self.workflow = workflow
        self._run_id = run_id
        self._stream = stream
        self._session = session
        self._journal = journal
        self._home: asyncio.Task[Any] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._inbox: deque[WorkflowTick] = deque()
        self._pull: asyncio.Future[WorkflowTick] | None = None
        self._working: dict[asyncio.Future[Any], tuple[asyncio.Task[None], PendingWorker]] = {}
        self._finished: deque[asyncio.Future[Any]] = deque()
        self._ending: list[asyncio.Task[None]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._over = False
        #: Told when the run has nothing to do before a time that is known.
        self.on_pause: Callable[[], None] | None = None
        # The events from outside that are on their way to the control loop, and the one that it works on.
        self._outside: dict[int, Held] = {}
        self._held: Held | None = None
        stream.on_fault = self.cancel

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def at_work(self) -> int:
        """How many steps are at work."""
        return len(self._working)

    def put(self, event: Event, held: Held) -> None:
        """Give the run an event from outside."""
        self._outside[id(event)] = held
        self._receive(TickAddEvent(event=event))

    def cancel(self) -> None:
        """Let the control loop end the run at its next turn."""
        self._receive(TickCancelRun())

    async def end(self) -> None:
        """Nothing of the run is at work afterwards, save for steps that refuse to end, which is logged."""
        self._over = True
        self._stream.on_fault = nothing
        for timer in self._timers:
            timer.cancel()
        await self.close()
        steps, self._ending = [task for task in self._ending if not task.done()], []
        if not steps:
            return
        overdue.update(steps)
        for task in steps:
            task.add_done_callback(overdue.discard)
        _, late = await asyncio.wait(steps, timeout=GRACE)
        for task in late:
            logger.warning(
                "%s of run %s goes on although the run is over and it was cancelled", task.get_name(), self.run_id
            )

    async def close(self) -> None:
        """The engine's word that the steps under way are no longer wanted."""
        for task, pending in self._working.values():
            task.cancel()
            task.add_done_callback(partial(_close, pending))
            self._ending.append(task)
        self._working.clear()

    async def write_to_event_stream(self, event: Event) -> None:
        if self._over:
            return
        if self._journal is not None and is_question(event) and asyncio.current_task() is self._home:
            self._journal.asks()
        self._stream.publish(event, self._held)

    async def on_tick(self, tick: WorkflowTick) -> None:
        """What is published from here to the next tick is about this one."""
        self._held = None
        if self._outside and isinstance(tick, TickAddEvent):
            self._held = self._outside.pop(id(tick.event), None)
        if self._journal is not None:
            await self._journal.on_tick(tick, self._held)

    async def after_tick(self, tick: WorkflowTick) -> None:
        if self._journal is not None:
            await self._journal.after_tick(tick, self._receive)

    def begin(self, past: Past | None) -> None:
        """The run begins, or goes on, in this task."""
        self._home = asyncio.current_task()
        if past is None:
            return
        loop, at = asyncio.get_running_loop(), now()
        for until, tick in past.timeouts():
            self._timers.append(loop.call_later(max(0.0, until - at), self._receive, tick))
        for event in past.unasked:
            self._stream.publish(event)
        if past.unasked and self._journal is not None:
            self._journal.asks()

    async def get_now(self) -> float:
        return now()

    def get_state_store(self, namespace: tuple[str, ...] = ()) -> StateStore[Any] | None:
        return None if namespace else self._session.store

    async def send_event(self, tick: WorkflowTick) -> None:
        if self._journal is None or not self._journal.holds(tick):
            self._receive(tick)

    async def wait_receive(self, timeout_seconds: float | None = None) -> WaitResult:
        """The next tick. The control loop takes its ticks by :meth:`wait_for_next_task`, without a task for each."""
        if not self._inbox:
            await self._wait(timeout_seconds)
        return WaitResultTick(self._inbox.popleft()) if self._inbox else WaitResultTimeout()

    async def wait_for_next_task(
        self, running: list[NamedTask], pending: list[PendingStart], timeout: float | None = None
    ) -> WaitForNextTaskResult:
        started = [self._start(each) for each in pending]
        if not self._finished and not self._inbox:
            if self.on_pause is not None and timeout is not None and not self._working:
                self.on_pause()
            await self._wait(timeout)
        return WaitForNextTaskResult(self._next(), started)

    def _start(self, pending: PendingStart) -> NamedTask:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()
        if isinstance(pending, PendingWorker):
            name = f"step {pending.step_id} of {type(self.workflow).__name__}"
            self._working[outcome] = loop.create_task(self._work(pending, outcome), name=name), pending
        else:
            pending.coro.close()
            self._pull = outcome
        return pending.start(cast("asyncio.Task[Any]", outcome))

    def when_sure(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step, to be begun once it is sure that the item is this worker's; asked as late as can be.

        One that is not asynchronous is begun in a thread, and was asked for a little before that.
        """
        around = self._stream.around
        if around is None or not inspect.iscoroutinefunction(step):
            return step
        doubt = around.item.context.doubt

        async def begin(*args: Any, **kwargs: Any) -> Any:
            if (waits := doubt()) is not None:
                await waits
            return await step(*args, **kwargs)

        return begin

    async def _work(self, pending: PendingWorker, outcome: asyncio.Future[Any]) -> None:
        around = self._stream.around
        task = asyncio.current_task()
        assert task is not None  # made in _start
        try:
            if around is not None and (doubt := around.item.context.doubt()) is not None:
                await doubt
            result = await pending.coro
        except BaseException as error:  # what is no Exception, the engine lets through
            if isinstance(error, KeyboardInterrupt) or closed_by(error, task):
                raise
            # A step that is still wanted ends so if it cancels itself or leaves: the engine would wait for it for ever.
            if outcome in self._working:
                self._stream.break_off(StepFailed(str(pending.step_id), error))
            outcome.cancel()
        else:
            if not outcome.done():
                outcome.set_result(result)
            calls = self._stream.calls
            if calls is not None and not any(isinstance(each, _TO_BE_CONTINUED) for each in result.result):
                calls.done(str(result.invocation_id))
        finally:
            self._working.pop(outcome, None)
            self._finished.append(outcome)
            self._wake()

    def _receive(self, tick: WorkflowTick) -> None:
        self._inbox.append(tick)
        self._wake()

    def _next(self) -> asyncio.Task[Any] | None:
        """Steps before ticks, as the engine has it."""
        if self._finished:
            return cast("asyncio.Task[Any]", self._finished.popleft())
        pull = self._pull
        if pull is None or not self._inbox:
            return None
        self._pull = None
        pull.set_result(self._inbox.popleft())
        return cast("asyncio.Task[Any]", pull)

    async def _wait(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout, self._wake) if timeout is not None else None
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
