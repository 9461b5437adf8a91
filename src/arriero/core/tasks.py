"""Tasks: submitted once, waited for, looked at."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from contextlib import aclosing

import msgspec

from arriero.core import names, records
from arriero.core.decisions import Verdict
from arriero.core.heads import heads_of
from arriero.core.items import Items
from arriero.core.kernel import Change, Kernel
from arriero.core.limits import check_headers
from arriero.core.outlook import waits_for
from arriero.core.records import ItemRecord, Loaded, Start, TaskRecord
from arriero.core.services import Services
from arriero.core.values import INPUT, VALUE
from arriero.types.errors import (
    ErrorInfo,
    InvalidInput,
    PayloadTooLarge,
    QueueFull,
    StateConflict,
    TaskConflict,
    UnknownSession,
    UnknownTask,
)
from arriero.types.ids import generate_id
from arriero.types.tasks import TaskStatus

#: How often a change is decided again when another got in between, before it is given up as a conflict.
TRIES = 20
#: How errors name the setting that limits inputs.
MAX_INPUT = "max_input of ControlPlaneConfig, CONTROL_PLANE_MAX_INPUT"
#: The longest deadline, in seconds.
LONGEST = 1e9


class Submission(msgspec.Struct, kw_only=True):
    """What a client sends to have a task done; ``deadline`` in seconds. Either name of the service will do."""

    input: str
    task_id: str | None = None
    session_id: str | None = None
    service_id: str | None = None
    agent_id: str | None = None
    deadline: float | None = None
    headers: dict[str, str] = {}

    @property
    def service(self) -> str | None:
        return self.service_id if self.service_id is not None else self.agent_id


class Tasks:
    """The use cases around a task, from the client's side."""

    def __init__(self, kernel: Kernel, services: Services, items: Items) -> None:
        self._kernel = kernel
        self._services = services
        self._items = items
        kernel.on_deadline = self._watch_deadline

    async def submit(
        self, session_id: str, submission: Submission, headers: dict[str, str] | None = None
    ) -> TaskRecord:
        """Accept a task: when this returns it is stored, and it will end.

        The same id with the same content gives the task that is there; with other content, :class:`TaskConflict`.
        """
        return await self._submit(session_id, submission, headers, durable=True)

    async def run(
        self, session_id: str, submission: Submission, headers: dict[str, str] | None, seconds: float
    ) -> TaskRecord:
        """Accept a task and wait for its end; gives it as it is after that many seconds at the latest.

        Nobody is told of the task before this returns, so its acceptance need not wait for the disk by itself: the
        commit that ends it takes it there, or one that is made here.
        """
        accepted = await self._submit(session_id, submission, headers, durable=False)
        task = await self.wait(accepted, seconds)
        if task is accepted:
            await self._kernel.store.commit((), durable=True)
        return task

    async def _submit(
        self, session_id: str, submission: Submission, headers: dict[str, str] | None, *, durable: bool
    ) -> TaskRecord:
        return await self._accept(self.new_record(session_id, submission, headers), durable=durable)

    async def accept(
        self, record: TaskRecord, *, start: Start | None = None, then: Callable[[Change], None] | None = None
    ) -> TaskRecord:
        """Accept a task that was made by :meth:`new_record`, as :meth:`submit` does; ``then`` adds to its commit."""
        return await self._accept(record, durable=True, start=start, then=then)

    async def _accept(
        self,
        record: TaskRecord,
        *,
        durable: bool,
        start: Start | None = None,
        then: Callable[[Change], None] | None = None,
    ) -> TaskRecord:
        session_id = record.session_id
        if record.service:
            await self._services.wait_for(record.service)
        async with self._kernel.turns.take(session_id):
            for _ in range(TRIES):
                await self._require_session(session_id)
                try:
                    return await self._open(record, durable=durable, start=start, then=then)
                except (StateConflict, QueueFull) as error:
                    there = await self._kernel.load(records.TASK, names.TASKS, record.id)
                    if there is not None:
                        await self._kernel.store.commit((), durable=durable)
                        return _same(there.record, record)
                    if isinstance(error, QueueFull):
                        raise
        raise StateConflict(f"task {record.id!r} could not be stored for all the changes to its session; try again")

    async def get(self, session_id: str | None, task_id: str) -> TaskRecord:
        """The task, without what is stored apart; one that belongs to another session is unknown.

        Errors: ``UnknownSession``, ``UnknownTask``.
        """
        loaded = await self._kernel.load(records.TASK, names.TASKS, task_id)
        if loaded is None or session_id not in (None, loaded.record.session_id):
            if session_id is not None:
                await self._require_session(session_id)
            where = f" in session {session_id[:80]!r}" if session_id is not None else ""
            raise UnknownTask(f"there is no task {task_id[:80]!r}{where}; GET /sessions/<session>/tasks lists them")
        return loaded.record

    async def show(self, session_id: str | None, task_id: str, *, with_input: bool = True) -> TaskRecord:
        """The task with its input, unless that is not wanted, and its status as of its items."""
        record = await self.get(session_id, task_id)
        if with_input:
            await self._kernel.values.fill(record, INPUT)
        if not record.ended:
            item = await self._kernel.load(records.ITEM, names.ITEMS, record.id)
            if item is not None:
                record.waits_for = await waits_for(self._kernel, item.record)
                record.status = _status(item.record, waits=bool(record.waits_for))
                record.attempts = max(record.attempts, item.record.attempt)
                record.started_at = record.started_at or item.record.started_at
            if record.undecided:
                record.waits_for.append({"orchestrator": type(self._kernel.orchestrator).__name__})
        return record

    async def wait(self, record: TaskRecord, seconds: float) -> TaskRecord:
        """The task as it ended, with its value, or as it is after that many seconds."""
        if record.ended or seconds <= 0:
            return await self._kernel.values.fill(record, VALUE)
        try:
            async with self._kernel.waits.at_most(seconds):
                await self._ended(record.id)
        except TimeoutError:
            return record
        return await self._kernel.values.fill(await self.get(None, record.id), VALUE)

    async def show_all(self, keys: Iterable[str]) -> list[TaskRecord]:
        """The tasks that those keys of a session's list name, without those that were removed meanwhile."""
        shown = await asyncio.gather(*(self._shown(names.dated(key)) for key in keys))
        return [task for task in shown if task is not None]

    async def _shown(self, task_id: str) -> TaskRecord | None:
        try:
            return await self.show(None, task_id)
        except UnknownTask:
            return None

    async def expire(self, task_id: str) -> None:
        """End the task whose deadline has passed."""
        loaded = await self._kernel.load(records.TASK, names.TASKS, task_id)
        if loaded is None:
            return
        limit = loaded.record.deadline or 0.0
        error = ErrorInfo(
            code="task_timed_out",
            type="TaskTimedOut",
            message=f"the task did not end within its deadline of {limit:g} s; it is set by `deadline` of the task",
            details={"limit": limit, "setting": "deadline"},
        )
        await self.end_outside(loaded.record.session_id, task_id, Verdict(TaskStatus.TIMED_OUT, error=error))

    def _watch_deadline(self, task: TaskRecord) -> None:
        if task.deadline_at is not None and not task.ended:
            left = task.deadline_at - self._kernel.clock()
            self._kernel.agenda.after(left, "deadline", task.id, lambda: self.expire(task.id))

    async def cancel(self, session_id: str, task_id: str, reason: str) -> None:
        """End the task as cancelled, unless it has ended."""
        error = ErrorInfo(code="task_cancelled", type="TaskCancelled", message=f"the task was cancelled: {reason}")
        await self.end_outside(session_id, task_id, Verdict(TaskStatus.CANCELLED, error=error))

    async def end_outside(self, session_id: str, task_id: str, verdict: Verdict) -> None:
        """End a task, whatever it is doing; the first end wins, and workers are told to stop."""
        async with self._kernel.turns.take(session_id):
            for _ in range(TRIES):
                loaded = await self._kernel.load(records.TASK, names.TASKS, task_id)
                if loaded is None or loaded.record.ended:
                    return None
                try:
                    return await self._end(loaded, verdict)
                except StateConflict:
                    continue
        raise StateConflict(f"task {task_id!r} could not be ended for all the changes to it; try again")

    async def _end(self, task: Loaded[TaskRecord], verdict: Verdict) -> None:
        change = Change()
        for item in await self._items.end_all(change, task, verdict):
            change.after.append(lambda item=item: self._kernel.on_stop(item, verdict.status.value))  # type: ignore[misc]  # bound now
        await self._kernel.apply(change)

    async def _open(
        self, record: TaskRecord, *, durable: bool, start: Start | None, then: Callable[[Change], None] | None
    ) -> TaskRecord:
        task = msgspec.structs.replace(record, created_at=self._kernel.tick())
        change = Change()
        await self._items.begin(change, task, start)
        if then is not None:
            then(change)
        change.put(names.tasks_of(task.session_id), names.dated_key(task.created_at, task.id), None)
        wanted = dict(change.queued)
        self._kernel.backlog.reserve(wanted, self._services.max_queue)
        try:
            await self._kernel.apply(change, durable=durable)
        finally:
            self._kernel.backlog.release(wanted)
        return task

    async def _ended(self, task_id: str) -> None:
        async with aclosing(heads_of(self._kernel, task_id)) as heads:
            async for head in heads:
                if head.ended:
                    return

    async def _require_session(self, session_id: str) -> None:
        if await self._kernel.store.get(names.SESSIONS, session_id) is None:
            raise UnknownSession(f"there is no session {session_id[:80]!r}; POST /sessions/create makes one")

    def new_record(self, session_id: str, submission: Submission, headers: dict[str, str] | None = None) -> TaskRecord:
        """The task that a submission asks for. Errors: ``InvalidInput``, ``PayloadTooLarge``."""
        if submission.session_id not in (None, session_id):
            raise InvalidInput(
                f"wrong task definition: its session_id is {submission.session_id!r} but should be {session_id!r}"
            )
        if len(submission.input) > self._kernel.config.max_input:
            raise too_large(len(submission.input), self._kernel.config.max_input)
        check_headers(submission.headers)
        now = self._kernel.clock()
        deadline = _deadline(submission.deadline)
        return TaskRecord(
            id=generate_id() if submission.task_id is None else names.check_name("task_id", submission.task_id),
            session_id=session_id,
            service=_service(submission),
            input=submission.input,
            fingerprint=fingerprint(session_id, submission),
            created_at=now,
            deadline=deadline,
            deadline_at=None if deadline is None else now + deadline,
            headers={**(headers or {}), **submission.headers},
        )


def _status(item: ItemRecord, *, waits: bool) -> TaskStatus:
    """The status of an open task as of its first item; one that has others at work instead is waiting."""
    if item.ended:
        return TaskStatus.RUNNING
    return TaskStatus.WAITING if waits and item.status is TaskStatus.RUNNING else item.status


def _service(submission: Submission) -> str:
    old, new = submission.agent_id, submission.service_id
    if old is not None and new is not None and old != new:
        raise InvalidInput(f"agent_id {old!r} and service_id {new!r} name different services; give one of them")
    name = submission.service
    if name is None:
        raise InvalidInput("the task names no service; set service_id (or agent_id)")
    return name


def _deadline(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < LONGEST:
        raise InvalidInput(f"deadline must be a number of seconds greater than 0, not {seconds!r}")
    return seconds


def fingerprint(session_id: str, submission: Submission) -> str:
    """What must be equal for a repeated id to mean the same task."""
    text = msgspec.json.encode([session_id, submission.service, submission.deadline, submission.input])
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def too_large(size: int, limit: int) -> PayloadTooLarge:
    """The error for an input beyond the limit."""
    return PayloadTooLarge(
        f"the input has {size} bytes; the limit is {limit} bytes (setting {MAX_INPUT})",
        size=size,
        limit=limit,
    )


def _same(there: TaskRecord, wanted: TaskRecord) -> TaskRecord:
    if there.fingerprint != wanted.fingerprint or there.session_id != wanted.session_id:
        raise TaskConflict(f"task {there.id!r} exists with another content; use a new task_id or Idempotency-Key")
    return there
