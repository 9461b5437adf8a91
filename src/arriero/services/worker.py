"""The one running loop of every service: it hears rings, claims items, runs the handler and reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

import msgspec

from arriero.message_queues.base import MessageQueue, Subscription
from arriero.runtime.keys import works_on
from arriero.services.context import ItemContext, Run, bounded
from arriero.services.emitter import Emitter
from arriero.services.faults import error_info, shown
from arriero.services.lease import LeaseKeeper
from arriero.services.pulse import Pulse
from arriero.services.slots import Slots
from arriero.types.errors import ArrieroError, ErrorInfo, Fenced, InternalError, StateConflict, Unavailable
from arriero.types.handling import Handled, Handler
from arriero.types.ids import generate_id
from arriero.types.jsonvalue import encode_json
from arriero.types.link import LARGEST_EVENT, ControlPlaneLink, Grant, Granted, Hello, Push, Report, Stop, Welcome
from arriero.types.whole import closed_by

logger = logging.getLogger("arriero.services")

#: Seconds between tries to report while the control plane cannot take it.
REPORT_PAUSE = 0.5
#: Seconds after which a handler that was told to stop is named in the log.
STOP_PATIENCE = 10.0
#: Seconds that handlers get to end once the worker leaves.
LEAVE_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker shows itself and how much it takes on."""

    service: str
    slots: int = 8
    description: str = ""
    host: str | None = None
    port: int | None = None
    parallel: bool = False
    max_queue: int | None = None


class Worker:
    """Serves one service until :meth:`run` is cancelled; :meth:`drain` lets running items finish first.

    ``running = False`` pauses it: it takes nothing new. Slots are taken by running items and by claims under way, so
    that never more than ``slots`` handlers run.
    """

    def __init__(
        self, options: WorkerOptions, handler: Handler, link: ControlPlaneLink, queue: MessageQueue, **extra: Any
    ) -> None:
        self.id = generate_id()
        self.options = options
        self.ready = asyncio.Event()
        self._handler = handler
        self._link = link
        self._queue = queue
        self._runs: dict[str, Run] = {}
        self._held: dict[str, str] = {}
        self._revoked: set[str] = set()
        self._slots = Slots(options.slots)
        self._running = True
        self._tasks: set[asyncio.Task[Any]] = set()
        self._quiet = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        # What an item runs in is not what caused it: that may be the step of another, in the same process.
        self._context = Context()
        self._subscription: Subscription | None = None
        self._welcome: Welcome | None = None
        self._raise = bool(extra.pop("raise_exceptions", False))
        self._raised: asyncio.Future[None] | None = None
        self._on_open: Callable[[Welcome], None] = extra.pop("on_open", _nobody)

    @property
    def running(self) -> bool:
        return self._running

    @running.setter
    def running(self, value: bool) -> None:
        self._running = value
        if not value:
            self._resumed.clear()
            return
        self._resumed.set()
        if self.ready.is_set():
            self._start(self._claim())

    @property
    def outstanding(self) -> int:
        """How many items are in work."""
        return len(self._runs)

    async def run(self) -> None:
        """Serve. When cancelled, what is in work is given back to be done by others."""
        loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._raised = loop.create_future()
        self._lease = LeaseKeeper(self._link, self.id, loop)
        self._pulse = Pulse(loop, lambda: self._start(self._make_sure()))
        try:
            await self._link.open(self._hello, self._pushed, self._opened)
            topic = f"{self._namespace()}.{self.options.service}"
            self._subscription = await self._queue.subscribe(topic, prefetch=1)
            self.ready.set()
            await self._listen(self._subscription)
        finally:
            self.ready.clear()
            await self._leave()

    async def drain(self, seconds: float | None) -> None:
        """Take nothing new and wait until what runs has ended and is reported, at most so long."""
        self._running = False
        await self._unsubscribe()
        if self._held:
            self._quiet.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._quiet.wait()
            except TimeoutError:
                logger.warning("%d items of %s go back unfinished", len(self._held), self.options.service)

    async def _listen(self, subscription: Subscription) -> None:
        assert self._raised is not None  # made in run
        rings = asyncio.ensure_future(self._hear(subscription))
        try:
            await asyncio.wait({rings, self._raised}, return_when=asyncio.FIRST_COMPLETED)
            if rings.done():
                await rings
            if self._subscription is None or self._raised.done():
                await self._raised  # a worker that drains hears no rings and goes on until it is cancelled
        finally:
            rings.cancel()
            await asyncio.gather(rings, return_exceptions=True)

    async def _hear(self, subscription: Subscription) -> None:
        async for delivery in subscription:
            await self._resumed.wait()
            try:
                await self._answer_ring()
            except Unavailable as error:
                logger.info("a ring waits: %s", error)
                await delivery.nack(REPORT_PAUSE)
            except InternalError as error:
                logger.error("a claim for %s failed: %s", self.options.service, error)  # noqa: TRY400  # what it says is all there is
                await delivery.ack()  # the control plane rings again for what is not claimed
            else:
                await delivery.ack()

    async def _answer_ring(self) -> None:
        """Claim; a worker without a free slot says so, for the ring may be due to another."""
        if self._slots.full:
            await self._link.claim(0)
        elif self._slots.free:
            await self._claim()
        else:
            self._slots.rung()

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.aclose()

    async def _claim(self) -> None:
        free = self._slots.free
        if not free or not self._running:
            return
        self._slots.claim(free)
        grants: list[Grant] = []
        try:
            grants = await self._link.claim(free)
        finally:
            self._begin(grants, free)

    def _begin(self, grants: list[Grant], asked: int) -> None:
        """Start what was granted for so many slots.

        What ended before it arrived is not begun. A worker that drains gives it back, and so does one whose slots were
        filled meanwhile by what came unasked, or one that stood still: it may be another's by now.
        """
        wanted = [grant for grant in grants if grant.token not in self._revoked]
        room = self._slots.room if self._running and not self._pulse.doubtful else 0
        wanted, surplus = wanted[:room], wanted[room:]
        self._slots.answered(asked, len(wanted))
        if not self._slots.asked:
            self._revoked.clear()
        for grant in wanted:
            self._begin_one(grant)
        if wanted:
            self._lease.busy(holds_items=True)
        if surplus:
            self._start(self._give_back(surplus))
        elif len(wanted) < len(grants) or self._slots.doubtful:
            self._start(self._claim())

    def _begin_one(self, grant: Grant) -> None:
        item_id, token = grant.item_id, grant.token
        older = self._held.get(item_id)
        if older is not None:  # the lease was lost, and the item came back to the same worker
            self._stop(Stop(item_id=item_id, token=older, reason="fenced"))
        fenced = Stop(item_id=item_id, token=token, reason="fenced")
        largest = self._welcome.max_event if self._welcome else LARGEST_EVENT
        run = Run(grant, Emitter(self._link, grant, lambda: self._stop(fenced), largest), self._slots)
        if self._welcome is not None:
            run.lease = self._welcome.lease
        run.doubt = self._pulse.doubt
        self._runs[item_id] = run
        self._held[item_id] = token
        run.task = self._start(self._work(run), self._context.copy())

    async def _work(self, run: Run) -> None:
        grant, task = run.grant, asyncio.current_task()
        assert task is not None  # made in _begin_one
        try:
            if (doubt := run.doubt()) is not None:
                await doubt
            handled = await self._handle(run)
            value = bounded(encode_json(handled.value, "the result"), "the result")
            if handled.context is not None:
                bounded(handled.context.encode(), "what the session keeps")
            report = _report(grant, value=msgspec.Raw(value), context=handled.context)
            report.step, report.took = handled.step, handled.took
        except asyncio.CancelledError as error:
            if run.stopped:
                return
            if _was_asked_to_cancel():
                raise
            report = _report(grant, error=error_info(error))
        except BaseException as error:  # the worker loop: whatever a handler raises is the item's failure
            if isinstance(error, KeyboardInterrupt) or closed_by(error, task):
                raise
            if run.stopped:
                return
            logger.warning("item %s of %s failed\n%s", grant.item_id, grant.service, shown(error))
            report = _report(grant, error=error_info(error))
            run.failure = error
        report.events = await run.emitter.rest()
        await self._finish(run, report)

    async def _handle(self, run: Run) -> Handled:
        grant = run.grant
        fenced = Stop(item_id=grant.item_id, token=grant.token, reason="fenced")
        left = Stop(item_id=grant.item_id, token=grant.token, reason="left until it can go on")
        context = ItemContext(
            run,
            self._link,
            self._start,
            self._claim_soon,
            on_fenced=lambda: self._stop(fenced),
            on_left=lambda: self._stop(left),
        )
        works_on(context)
        return await self._handler.handle(context)

    def _claim_soon(self) -> None:
        if self._slots.free and self._running:
            self._start(self._claim())

    async def _finish(self, run: Run, report: Report) -> None:
        if run.stopped:
            return
        del self._runs[run.grant.item_id]
        run.let_go()
        report.free = ask = 1 if self._running and self._slots.free else 0
        self._slots.ask(ask)
        grants: list[Grant] = []
        try:
            grants = await self._report(report)
        except ArrieroError as error:
            logger.log(_level(error), "the report of item %s was refused: %s", run.grant.item_id, error)
            self._start(self._claim())
        finally:
            if self._held.get(run.grant.item_id) == run.grant.token:
                del self._held[run.grant.item_id]
            self._begin(grants, ask)
            self._settle(run)

    async def _report(self, report: Report) -> list[Grant]:
        """Report until it is taken or refused; while the control plane cannot take it, it is held.

        A value that cannot be taken at all makes a failure of it.
        """
        while True:
            try:
                return await self._link.report(report)
            except (Unavailable, StateConflict) as error:
                logger.info("a report waits: %s", error)
                await asyncio.sleep(REPORT_PAUSE)  # the store is down and does not say when it is back
            except Fenced:
                raise
            except ArrieroError as error:
                if report.error is not None and not report.events:
                    raise
                logger.warning("the result of item %s cannot be taken: %s", report.item_id, error)
                failed = Report(request=0, item_id=report.item_id, token=report.token, error=error.info())
                failed.free, report = report.free, failed

    def _settle(self, run: Run) -> None:
        self._rest_if_idle()
        raised = self._raised
        if self._raise and run.failure is not None and raised is not None and not raised.done():
            raised.set_exception(run.failure)

    def _rest_if_idle(self) -> None:
        if not self._held:
            self._lease.busy(holds_items=False)
            self._quiet.set()

    def _pushed(self, push: Push) -> None:
        if isinstance(push, Stop):
            self._stop(push)
            return
        if isinstance(push, Granted):
            self._given(push.grants)
            return
        run = self._runs.get(push.item_id)
        if run is None or run.grant.token != push.token:
            return
        run.take(push.arrivals)
        if not run.idle:
            run.deliver()
        elif not run.waking:
            run.waking = True
            self._start(self._wake(run))

    async def _wake(self, run: Run) -> None:
        """Events have come for an item that waited for them: it needs a slot first."""
        await run.regain()
        run.idle = run.waking = False
        run.deliver()

    def _given(self, grants: list[Grant]) -> None:
        """What came unasked begins where nothing runs. A claim under way for that slot may well be for nothing."""
        for grant in grants:
            if self._running and self._slots.vacant and not self._pulse.doubtful:
                self._slots.seize()
                self._begin_one(grant)
                self._lease.busy(holds_items=True)
            else:
                self._start(self._give_back([grant]))

    async def _give_back(self, grants: list[Grant]) -> None:
        """There is no slot for these. Asking for all that are free then tells the control plane how many they are."""
        tokens = {grant.item_id: grant.token for grant in grants}
        while True:
            try:
                await self._link.release(tokens)
                break
            except (Unavailable, StateConflict) as error:
                logger.info("items that go back wait: %s", error)
                await asyncio.sleep(REPORT_PAUSE)  # the store is down and does not say when it is back
        await self._claim()

    async def _make_sure(self) -> None:
        """The process stood still. An answer to what is asked now comes behind all that was under way then."""
        logger.warning("the worker of %s stood still for longer than half a lease", self.options.service)
        try:
            await self._link.claim(0)
        except ArrieroError as error:
            logger.info("the worker of %s asks again later: %s", self.options.service, error)
        self._pulse.sure()
        await self._claim()

    def _stop(self, stop: Stop) -> None:
        """The item ended elsewhere: its slot is free at once, whatever the handler does.

        It may have ended before the answer that grants it was read.
        """
        if self._held.get(stop.item_id) != stop.token:
            if self._slots.asked:
                self._revoked.add(stop.token)
            return
        del self._held[stop.item_id]
        run = self._runs.pop(stop.item_id, None)
        if run is None:
            return
        logger.info("item %s of %s: %s", stop.item_id, self.options.service, stop.reason)
        run.stopped = True
        run.let_go()
        run.emitter.drop()
        if run.task is not None:
            run.task.cancel()
            self._name_if_stuck(run.task, stop)
        self._rest_if_idle()
        self._start(self._claim())

    def _name_if_stuck(self, task: asyncio.Task[None], stop: Stop) -> None:
        """A handler that ends in time is kept by nothing."""
        what = "the handler of item %s does not stop"
        timer = asyncio.get_running_loop().call_later(STOP_PATIENCE, logger.warning, what, stop.item_id)
        task.add_done_callback(lambda _: timer.cancel())

    def _hello(self) -> Hello:
        options = self.options
        return Hello(
            worker_id=self.id,
            service=options.service,
            slots=options.slots,
            free=self._slots.free,
            description=options.description,
            host=options.host,
            port=options.port,
            parallel=options.parallel,
            max_queue=options.max_queue,
            takes=True,
            held=dict(self._held),
            accepts=self._handler.accepts,
            shape=getattr(self._handler, "shape", ""),
        )

    def _opened(self, welcome: Welcome) -> None:
        """Connected, for the first time or again: stop what is no longer ours, take what has gathered."""
        self._welcome = welcome
        for item_id in welcome.stop:
            token = self._held.get(item_id)
            if token is not None:
                self._stop(Stop(item_id=item_id, token=token, reason="fenced"))
        self._lease.start(welcome.renew_every)
        self._pulse.start(welcome.lease if welcome.renew_every else 0.0)
        self._on_open(welcome)
        self._start(self._claim())

    def _namespace(self) -> str:
        return self._welcome.topic_namespace if self._welcome else "llama_deploy"

    def _start(self, work: Any, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the worker of %s: %s", self.options.service, error, exc_info=error)

    async def _leave(self) -> None:
        """What is in work is cancelled; a handler that does not heed that is left behind."""
        self._running = False
        await self._unsubscribe()
        for run in self._runs.values():
            run.emitter.drop()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=LEAVE_PATIENCE)
            if stuck:
                logger.warning("%d handlers of %s do not stop", len(stuck), self.options.service)
        self._lease.stop()
        self._pulse.stop()
        await self._link.aclose()


def _level(error: ArrieroError) -> int:
    return logging.INFO if isinstance(error, Fenced) else logging.ERROR


def _nobody(_: Welcome) -> None:
    """Stands for a listener that is not there."""


def _was_asked_to_cancel() -> bool:
    """Whether this task was cancelled from outside, rather than by an error that its handler let through."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _report(
    grant: Grant,
    *,
    value: msgspec.Raw = msgspec.Raw(b"null"),  # noqa: B008  # immutable
    error: ErrorInfo | None = None,
    context: str | None = None,
) -> Report:
    return Report(request=0, item_id=grant.item_id, token=grant.token, value=value, error=error, context=context)
