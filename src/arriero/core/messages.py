"""Documented messages from other producers, on the control plane's topic or route."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import ValidationError

from arriero.core import names, records
from arriero.core.decisions import Verdict
from arriero.core.items import Items
from arriero.core.kernel import Change, Kernel
from arriero.core.limits import bounded, check_size
from arriero.core.records import ItemRecord, Loaded, StreamEntry
from arriero.core.sessions import Sessions
from arriero.core.tasks import TRIES, Submission, Tasks
from arriero.types.errors import ErrorInfo, Fenced, InvalidInput, StateConflict, UnknownTask
from arriero.types.link import LARGEST_VALUE, check_event
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import NewTask, TaskDefinition, TaskResult, TaskStatus, TaskStream


class Messages:
    """Takes ``NEW_TASK``, ``COMPLETED_TASK`` and ``TASK_STREAM``; any other action is :class:`InvalidInput`."""

    def __init__(self, kernel: Kernel, sessions: Sessions, tasks: Tasks, items: Items) -> None:
        self._kernel = kernel
        self._sessions = sessions
        self._tasks = tasks
        self._items = items

    async def take(self, message: QueueMessage) -> None:
        """Do what the message asks; when this returns, it is stored."""
        takers = {
            ActionTypes.NEW_TASK: self._new_task,
            ActionTypes.COMPLETED_TASK: self._completed,
            ActionTypes.TASK_STREAM: self._streamed,
        }
        taker = takers.get(message.action) if message.action else None
        if taker is None:
            valid = ", ".join(action.value for action in takers)
            raise InvalidInput(f"the control plane takes {valid}; not {message.action!r}")
        try:
            await taker(message.data)
        except ValidationError as error:
            raise InvalidInput(f"the data of a {message.action!r} message is wrong: {error}") from error

    async def _new_task(self, data: dict[str, Any]) -> None:
        task = NewTask.model_validate(data).task if "task" in data else TaskDefinition.model_validate(data)
        session_id = task.session_id or await self._sessions.create(key=f"message {task.task_id}")
        submission = Submission(
            input=task.input, task_id=task.task_id, service_id=task.service_id, deadline=task.deadline
        )
        await self._tasks.submit(session_id, submission, task.headers)

    async def _completed(self, data: dict[str, Any]) -> None:
        result = TaskResult.model_validate(data)
        session_id = (await self._tasks.get(None, result.task_id)).session_id
        async with self._kernel.turns.take(session_id):
            for _ in range(TRIES):
                try:
                    return await self._end(result)
                except StateConflict:
                    continue
        raise StateConflict(f"task {result.task_id!r} keeps changing; send it again")

    async def _end(self, result: TaskResult) -> None:
        task = await self._kernel.load(records.TASK, names.TASKS, result.task_id)
        if task is None:
            raise UnknownTask(f"there is no task {result.task_id!r}")
        if task.record.ended:
            return
        item = await self._unclaimed(result.task_id)
        change = Change()
        item.record.attempt += 1
        await self._items.end(change, task, item, _verdict(result))
        await self._kernel.apply(change)

    async def _streamed(self, message: dict[str, Any]) -> None:
        event = TaskStream.model_validate(message)
        data = records.encode(event.data)
        check_event("", len(data), self._kernel.config.max_event)
        item = await self._unclaimed(event.task_id)
        entry = StreamEntry(
            kind="event",
            item=item.record.id,
            number=event.index,
            at=self._kernel.clock(),
            data=msgspec.Raw(data),
        )
        change = Change()
        change.append(names.stream_log(event.task_id), entry)
        await self._kernel.apply(change)

    async def _unclaimed(self, task_id: str) -> Loaded[ItemRecord]:
        """The task's item; only its worker speaks for it once it was claimed."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, task_id)
        if item is None:
            raise UnknownTask(f"there is no task {task_id!r}")
        if item.record.epoch:
            raise Fenced(f"task {task_id!r} was claimed by a worker; only that worker may report on it")
        return item


def _verdict(result: TaskResult) -> Verdict:
    if result.status not in (TaskStatus.COMPLETED, TaskStatus.FAILED):
        raise InvalidInput(f"a result is completed or failed, not {result.status.value!r}")
    if result.status is TaskStatus.FAILED:
        error = msgspec.convert(result.error or {}, dict[str, Any])
        message = str(error.get("message") or result.result)
        info = ErrorInfo(code="handler_error", type=str(error.get("type", "")), message=message)
        return Verdict(TaskStatus.FAILED, error=bounded(info))
    value = records.encode(result.value if result.value is not None else result.result)
    check_size(len(value), LARGEST_VALUE, "the result")
    return Verdict(TaskStatus.COMPLETED, value=msgspec.Raw(value))
