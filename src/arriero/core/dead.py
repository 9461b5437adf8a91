"""Tasks that failed or are dead: listed from their end until somebody deals with them, or their time is over."""

from __future__ import annotations

from arriero.core import names, records
from arriero.core.copies import Copies
from arriero.core.items import LISTED
from arriero.core.kernel import Change, Kernel, decode
from arriero.core.records import TaskRecord, item_ids
from arriero.core.tasks import Tasks
from arriero.types.errors import UnknownTask
from arriero.types.history import DeadTask

#: The most that one answer lists, and the most that are looked through for it when only some are wanted.
MOST = 1000
MOST_SEEN = 10_000
PAGE = 100


class Dead:
    """The commit that ends such a task lists it. What is dropped leaves the list only: the task stays as it is."""

    def __init__(self, kernel: Kernel, tasks: Tasks, copies: Copies) -> None:
        self._kernel = kernel
        self._tasks = tasks
        self._copies = copies

    async def listed(
        self, service: str | None = None, after: str = "", limit: int = MOST
    ) -> tuple[list[DeadTask], str | None]:
        """Those of a service, or all, in the order of their end; and the cursor behind which more may be."""
        found: list[DeadTask] = []
        seen = 0
        while page := await self._kernel.store.scan(names.DEAD, after, min(PAGE, limit - len(found))):
            for document in page:
                listed = decode(records.DEAD, document.value, f"dead {document.key}")
                if service in (None, listed.service):
                    found += await self._shown(names.dated(document.key))
            seen += len(page)
            after = page[-1].key
            if len(found) >= limit or seen >= MOST_SEEN:
                more = await self._kernel.store.scan(names.DEAD, after, 1)
                return found, after if more else None
        return found, None

    async def show(self, task_id: str) -> DeadTask:
        """One of the list. Errors: ``UnknownTask`` when it is not there."""
        return await self._view(await self._on_list(task_id))

    async def replay(self, task_id: str, new_id: str | None = None) -> TaskRecord:
        """Begin the task anew, in its session, and take the old one off the list, in one commit.

        Errors: ``UnknownTask``, and those of a submission. Said again with the same id for the new task, it is done.
        """
        task = await self._tasks.get(None, task_id)
        if new_id is None or await self._kernel.store.get(names.TASKS, new_id) is None:
            await self._on_list(task_id)
        return await self._copies.replay(task, task_id=new_id, then=lambda change: _take_off(change, task))

    async def drop(self, task_id: str) -> None:
        """Take the task off the list; one that was taken off before stays so. Errors: ``UnknownTask``."""
        task = await self._tasks.get(None, task_id)
        if task.status not in LISTED:
            raise _not_listed(task_id)
        change = Change()
        _take_off(change, task)
        await self._kernel.apply(change)

    async def _on_list(self, task_id: str) -> TaskRecord:
        loaded = await self._kernel.load(records.TASK, names.TASKS, task_id)
        key = names.dated_key(loaded.record.finished_at or 0.0, task_id) if loaded is not None else ""
        if loaded is None or await self._kernel.store.get(names.DEAD, key) is None:
            raise _not_listed(task_id)
        return loaded.record

    async def _shown(self, task_id: str) -> list[DeadTask]:
        loaded = await self._kernel.load(records.TASK, names.TASKS, task_id)
        return [] if loaded is None else [await self._view(loaded.record)]

    async def _view(self, task: TaskRecord) -> DeadTask:
        losses = 0
        for item_id in item_ids(task):
            item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
            losses += item.record.losses if item is not None else 0
        return DeadTask(
            task_id=task.id,
            session_id=task.session_id,
            service=task.service,
            status=task.status,
            error=task.error,
            attempts=task.attempts,
            losses=losses,
            created_at=task.created_at,
            finished_at=task.finished_at or 0.0,
            forked_from=task.forked_from,
            replay_of=task.replay_of,
        )


def _not_listed(task_id: str) -> UnknownTask:
    return UnknownTask(f"task {task_id[:80]!r} is not in the list of dead tasks; GET /dead shows it")


def _take_off(change: Change, task: TaskRecord) -> None:
    change.delete(names.DEAD, names.dated_key(task.finished_at or 0.0, task.id))
