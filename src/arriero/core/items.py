"""The life of work items: ordered, given back, tried again, ended."""

from __future__ import annotations

import copy
import random

from arriero.core import names, records
from arriero.core.decisions import QUICK, Asking, Decider, Decision, OrchestratorError, Order, Verdict, keep_message
from arriero.core.itemlog import note_end, shortened
from arriero.core.kernel import Change, Kernel
from arriero.core.lanes import Lanes
from arriero.core.parking import drop_wake
from arriero.core.records import DeadRecord, ItemRecord, Loaded, Start, StreamEntry, TaskRecord, item_ids
from arriero.core.services import Services
from arriero.types.errors import ArrieroError, ErrorInfo, StoreDamaged, Unavailable, WorkflowChanged
from arriero.types.tasks import TaskStatus

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
#: Ends after which a task is listed until somebody deals with it.
LISTED = (TaskStatus.FAILED, TaskStatus.DEAD)


class Items:
    """Changes of items and of the tasks they belong to. Callers hold the session's turn and commit the change."""

    def __init__(self, kernel: Kernel, services: Services) -> None:
        self._kernel = kernel
        self._services = services
        self._lanes = Lanes(kernel)
        self.decider = Decider(kernel)

    async def begin(self, change: Change, task: TaskRecord, start: Start | None = None) -> None:
        """Put a new task and its first items into the change; a task without orders ends at once.

        Its empty stream is named too, so that the store knows it when the first reader comes.
        """
        change.append(names.stream_log(task.id))
        if task.deadline_at is not None:
            change.put(names.TIMERS, names.timer_key(task.deadline_at, "deadline", task.id), task.id)
            change.after.append(lambda: self._kernel.on_deadline(task))
        decision, asking = await self._ask(task, None)
        if decision is None:
            self._leave_undecided(change, task, 0, "", asking, start)
        else:
            await self._follow(change, task, decision, 0, start)

    async def end(self, change: Change, task: Loaded[TaskRecord], item: Loaded[ItemRecord], verdict: Verdict) -> None:
        """The item ends with this verdict, and the orchestrator is asked what follows; a child's parent is told.

        What it has not decided soon, or while an earlier end is undecided, is decided later.
        """
        if item.record.parent is not None:
            await self.end_child(change, item, verdict)
            return
        record = task.record
        record.attempts = max(record.attempts, item.record.attempt)
        record.started_at = record.started_at or item.record.started_at
        decision, asking = (None, None) if record.undecided else await self._ask_safely(record, verdict)
        if decision is None:
            item.record.value, item.record.error = verdict.value, verdict.error
            self._leave_undecided(change, record, task.version, item.record.id, asking)
        await self.close(change, item, verdict.status)
        if decision is not None:
            record.open -= 1
            await self._follow(change, record, decision, task.version)

    async def decided(self, change: Change, task: Loaded[TaskRecord], decision: Decision, start: Start | None) -> None:
        """The orchestrator has decided what the first of the task's undecided entries waited for."""
        record = task.record
        if record.undecided.pop(0):
            record.open -= 1
        if not record.undecided:
            change.delete(names.DECISIONS, record.id)
        await self._follow(change, record, decision, task.version, start)

    async def _ask_safely(self, task: TaskRecord, verdict: Verdict) -> tuple[Decision | None, Asking | None]:
        try:
            return await self._ask(task, verdict)
        except Unavailable:
            raise
        except ArrieroError as error:
            return failure(error), None

    async def _ask(self, task: TaskRecord, verdict: Verdict | None) -> tuple[Decision | None, Asking | None]:
        """The decision, if it is made soon, and else who was asked."""
        decision = self.decider.known(task, verdict)
        if decision is not None:
            return decision, None
        asking = self.decider.ask(task, verdict)
        return await asking.answer(QUICK), asking

    def _leave_undecided(
        self,
        change: Change,
        task: TaskRecord,
        version: int,
        item_id: str,
        asking: Asking | None,
        start: Start | None = None,
    ) -> None:
        if not task.undecided:
            change.put(names.DECISIONS, task.id, start)
            change.after.append(lambda: self._kernel.on_undecided(task.id, asking))
            if asking is not None:
                change.failed.append(lambda _: asking.end())
        task.undecided.append(item_id)
        self._put_task(change, task, version)

    async def end_child(self, change: Change, item: Loaded[ItemRecord], verdict: Verdict) -> None:
        """A child ends: it keeps its outcome for its parent, and nothing is decided."""
        item.record.value, item.record.error = verdict.value, verdict.error
        await self.close(change, item, verdict.status)
        child_id, parent_id = item.record.id, item.record.parent or ""
        change.after.append(lambda: self._kernel.offspring.ended(parent_id, child_id))
        change.after.append(lambda: self._kernel.endings.tell(child_id))

    async def end_all(self, change: Change, task: Loaded[TaskRecord], verdict: Verdict) -> list[ItemRecord]:
        """End the task and every open item of it from outside; gives the items as they were."""
        before = []
        for item_id in reversed(item_ids(task.record)):  # followers leave their lane before its head does
            try:
                item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
            except StoreDamaged:
                item = None
            if item is None:
                await self._discard(change, task.record, item_id)
            elif not item.record.ended:
                before.append(copy.copy(item.record))
                await self.close(change, item, verdict.status)
        task.record.attempts = max([task.record.attempts, *(item.attempt for item in before)])
        self.finish(change, task.record, verdict)
        self._put_task(change, task.record, task.version)
        return before

    async def _discard(self, change: Change, task: TaskRecord, item_id: str) -> None:
        """An item that cannot be read is removed, and holds up its session no more."""
        unread = ItemRecord(
            id=item_id,
            task_id=task.id,
            session_id=task.session_id,
            service=task.service,
            created_at=task.created_at,
        )
        await self._lanes.leave(change, unread)
        change.delete(names.ITEMS, item_id)

    async def close(self, change: Change, item: Loaded[ItemRecord], status: TaskStatus) -> None:
        """Take the item out of every index; what its task makes of it is the caller's."""
        record = item.record
        self._unhold(change, record)
        if record.status is TaskStatus.QUEUED and record.retry_at is None and not record.place:
            change.unready(record)
        self._drop_retry(change, record)
        drop_wake(self._kernel, change, record)
        await self._lanes.leave(change, record)
        if record.calls:
            change.before.append(lambda: self._have_swept(change, record.id))
        record.status = status
        record.ended_at = self._kernel.clock()
        change.put(names.ITEMS, record.id, record, expect=item.version)

    def _have_swept(self, change: Change, item_id: str) -> None:
        """Have the children of an ended item ended, unless they have: asked right before the commit, with its rank."""
        if self._kernel.store.shared or not self._kernel.offspring.have_all_ended(item_id):
            change.put(names.SWEEPS, item_id, None)
            change.after.append(lambda: self._kernel.on_sweep(item_id))
        change.after.append(lambda: self._kernel.offspring.forget(item_id))

    def requeue(self, change: Change, item: Loaded[ItemRecord], *, lost: bool, reason: str = "") -> None:
        """Give a claimed item back; its token stays good until the next claim."""
        note_end(self._kernel, change, item.record, "lost" if lost else "released", reason=reason)
        self._unhold(change, item.record)
        item.record.status = TaskStatus.QUEUED
        item.record.worker_id = ""
        item.record.awaits = []
        change.put(names.ITEMS, item.record.id, item.record, expect=item.version)
        change.make_ready(item.record)

    def retry_later(self, change: Change, item: Loaded[ItemRecord], error: ErrorInfo) -> float:
        """Queue a failed item for another attempt; gives the delay in seconds."""
        record = item.record
        delay = backoff(record.attempt, error.retry_after)
        told = {"attempt": record.attempt, "delay": delay, "error": shortened(error)}
        note_end(self._kernel, change, record, "retried", **told)
        self._unhold(change, record)
        if record.status is TaskStatus.QUEUED:
            change.unready(record)
        record.status = TaskStatus.QUEUED
        record.worker_id, record.token = "", ""
        record.awaits = []
        record.retry_at = self._kernel.clock() + delay
        change.put(names.TIMERS, names.timer_key(record.retry_at, "retry", record.id), record.id)
        change.count(record.service, 1)
        change.put(names.ITEMS, record.id, record, expect=item.version)
        return delay

    def retry_now(self, change: Change, item: Loaded[ItemRecord]) -> None:
        """The delay has passed."""
        self._drop_retry(change, item.record)
        item.record.retry_at = None
        change.put(names.ITEMS, item.record.id, item.record, expect=item.version)
        change.make_ready(item.record)

    def finish(self, change: Change, task: TaskRecord, verdict: Verdict, closing: Decision | None = None) -> None:
        """End the task and its stream."""
        task.status, task.value, task.error = verdict.status, verdict.value, verdict.error
        task.finished_at = self._kernel.clock()
        task.open = 0
        if task.undecided:
            task.undecided = []
            change.delete(names.DECISIONS, task.id)
            change.after.append(lambda: self._kernel.on_overtaken(task.id))
        end = StreamEntry(kind="end", at=task.finished_at, status=task.status, error=task.error)
        change.append(names.stream_log(task.id), end, end=True)
        change.put(names.FINISHED, names.dated_key(task.finished_at, task.id), None)
        if task.status in LISTED:
            listed = DeadRecord(service=task.service, status=task.status)
            change.put(names.DEAD, names.dated_key(task.finished_at, task.id), listed)
        change.after.append(self._kernel.on_finished)
        self._drop_timer(change, task.deadline_at, "deadline", task.id)
        for number, message in enumerate(closing.closing if closing else []):
            namespace = self._kernel.config.topic_namespace
            key = keep_message(change, task.id, number, message, f"{namespace}.{message.type}")
            change.after.append(lambda key=key: self._kernel.on_outbox(key))  # type: ignore[misc]  # bound now

    async def _follow(
        self, change: Change, task: TaskRecord, decision: Decision, version: int, start: Start | None = None
    ) -> None:
        try:
            for order in decision.orders:
                self._services.require(order.service)
        except ArrieroError as error:
            if not version:
                raise
            decision = failure(error)
        self.decider.keep(change, task, decision)
        for order in decision.orders:
            await self._order(change, task, order, start)
        if not task.open:
            self.finish(change, task, decision.verdict or _nothing_ordered(), decision)
        self._put_task(change, task, version)

    async def _order(self, change: Change, task: TaskRecord, order: Order, start: Start | None) -> None:
        task.ordered += 1
        task.open += 1
        item = ItemRecord(
            id=item_ids(task)[-1],
            task_id=task.id,
            session_id=task.session_id,
            service=order.service,
            created_at=self._kernel.clock(),
            input=order.input,
            parallel=self._services.require(order.service).parallel,
            deadline_at=task.deadline_at,
        )
        self._kernel.values.item(change.ops, item)
        if start is not None and item.id == task.id:
            _start_from(change, item, start)
        if await self._lanes.enter(change, item):
            await self._kernel.on_order(change, task, item)
        else:
            change.put(names.ITEMS, item.id, item, expect=0)

    def _put_task(self, change: Change, task: TaskRecord, version: int) -> None:
        change.put(names.TASKS, task.id, self._kernel.values.task(change.ops, task), expect=version)

    def _unhold(self, change: Change, item: ItemRecord) -> None:
        if item.worker_id:
            change.delete(names.held(item.worker_id), item.id)

    def _drop_retry(self, change: Change, item: ItemRecord) -> None:
        if item.retry_at is not None:
            self._drop_timer(change, item.retry_at, "retry", item.id)
            change.count(item.service, -1)

    def _drop_timer(self, change: Change, at: float | None, kind: str, item_id: str) -> None:
        if at is not None:
            change.delete(names.TIMERS, names.timer_key(at, kind, item_id))
            change.after.append(lambda: self._kernel.agenda.drop(kind, item_id))


def _start_from(change: Change, item: ItemRecord, start: Start) -> None:
    if item.service != start.service:
        raise WorkflowChanged(
            f"the orchestrator begins with service {item.service!r}, and the journal is of {start.service!r}"
        )
    item.journaled, item.shape, item.base = True, start.shape, start.base
    change.append(names.journal_log(item.id), *start.entries)


def backoff(attempt: int, least: float | None, chance: float | None = None) -> float:
    """Seconds until the attempt after ``attempt``: doubling from half a second up to half a minute, with jitter."""
    chance = random.random() if chance is None else chance  # noqa: S311  # jitter, not a secret
    delay: float = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(attempt - 1, 16)) * (0.5 + chance / 2)
    return max(delay, least or 0.0)


def failure(error: ArrieroError) -> Decision:
    """The task fails with this, once nothing of it is open any more."""
    return Decision(verdict=Verdict(TaskStatus.FAILED, error=error.info()))


def _nothing_ordered() -> Verdict:
    error = OrchestratorError("the orchestrator ordered no work and named no result")
    return Verdict(TaskStatus.FAILED, error=error.info())
