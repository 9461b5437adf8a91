"""What becomes of a task of which something that was stored cannot be read: it fails and says so."""

from __future__ import annotations

import logging

from arriero.core import names, records
from arriero.core.decisions import Verdict
from arriero.core.kernel import Change, Kernel
from arriero.core.mending import PAGE, open_item
from arriero.core.records import ItemRecord, TaskRecord, item_ids
from arriero.core.tasks import Tasks
from arriero.types.errors import StoreDamaged
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")


class Damage:
    """Ends tasks that cannot be done, so that nobody waits for them and none of their sessions is held up."""

    def __init__(self, kernel: Kernel, tasks: Tasks) -> None:
        self._kernel = kernel
        self._tasks = tasks
        kernel.on_damaged = self._noticed

    def _noticed(self, item_id: str, damage: StoreDamaged) -> None:
        self._kernel.agenda.after(0.0, "damaged", item_id, lambda: self._fail(item_id, damage))

    async def _fail(self, item_id: str, damage: StoreDamaged) -> None:
        task_id = item_id.split("/", 1)[0]
        try:
            task = await self._kernel.load(records.TASK, names.TASKS, task_id)
        except StoreDamaged as unread:
            damage, task = unread, None
        if task is None:
            await self._rewrite(task_id)
            task = await self._kernel.load(records.TASK, names.TASKS, task_id)
        if task is None or not _belongs(item_id, task.record):
            return
        told = StoreDamaged(f"task {task_id!r} cannot be done: {damage}").info()
        await self._tasks.end_outside(task.record.session_id, task_id, Verdict(TaskStatus.FAILED, error=told))

    async def _rewrite(self, task_id: str) -> None:
        """Have a record again, to end it: as much as its items know. One whose items have ended stays as it is."""
        items = await self._items(task_id)
        if not items:
            return
        async with self._kernel.turns.take(items[0].session_id):
            change = Change()
            first = items[0]
            task = TaskRecord(
                id=task_id,
                session_id=first.session_id,
                service=first.service,
                input="",
                fingerprint="",
                created_at=first.created_at,
                deadline_at=first.deadline_at,
                ordered=max(_number(item.id) for item in items),
                open=len(items),
            )
            change.put(names.TASKS, task_id, task)
            await self._kernel.apply(change)

    async def _items(self, task_id: str) -> list[ItemRecord]:
        """Those that were ordered for the task, can be read, and have not ended."""
        ids, after = [task_id], f"{task_id}/"
        while page := await self._kernel.store.scan(names.ITEMS, after, PAGE):
            ids += [document.key for document in page if document.key.startswith(f"{task_id}/")]
            after = page[-1].key
            if not after.startswith(f"{task_id}/"):
                break
        found = [await open_item(self._kernel, item_id) for item_id in ids]
        return [item.record for item in found if item is not None and item.record.parent is None]


def _number(item_id: str) -> int:
    number = item_id.partition("/")[2]
    return int(number) if number.isdecimal() else 1


def _belongs(item_id: str, task: TaskRecord) -> bool:
    """Whether there is such an item, or may be: a child's id says nothing. A damaged name may be anything."""
    return item_id in item_ids(task) or not item_id.partition("/")[2].isdecimal()
