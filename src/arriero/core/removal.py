"""What has to go when a task goes: everything that was ever stored for it."""

from __future__ import annotations

from arriero.core import names, records
from arriero.core.kernel import Change, Kernel
from arriero.core.records import TaskRecord, item_ids

PAGE = 1000


class Removal:
    """Takes tasks out of the store, for their session's deletion and for the end of their time."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def put(self, change: Change, session_id: str, key: str) -> bool:
        """Put the end of a listed task into the change; False when it has not ended, and stays."""
        task_id = names.dated(key)
        loaded = await self._kernel.load(records.TASK, names.TASKS, task_id)
        change.delete(names.tasks_of(session_id), key)
        if loaded is None or loaded.record.session_id != session_id:
            return True
        if not loaded.record.ended:
            return False
        change.expect(names.TASKS, task_id, loaded.version)
        await self.forget(change, loaded.record)
        return True

    async def forget(self, change: Change, task: TaskRecord) -> None:
        """Remove what belongs to an ended task; whatever else is ever stored for one is removed here."""
        for item_id in item_ids(task):
            await self._forget_item(change, item_id)
        self._kernel.values.forget_task(change.ops, task)
        change.delete(names.TASKS, task.id)
        change.delete(names.tasks_of(task.session_id), names.dated_key(task.created_at, task.id))
        if task.finished_at is not None:
            change.delete(names.FINISHED, names.dated_key(task.finished_at, task.id))
            change.delete(names.DEAD, names.dated_key(task.finished_at, task.id))
        change.drop(names.stream_log(task.id))

    async def _forget_item(self, change: Change, item_id: str) -> None:
        """The item, what came to it, and its children."""
        change.delete(names.ITEMS, item_id)
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is None:
            return
        self._kernel.values.forget_item(change.ops, item.record)
        for collection in (names.inbox(item_id), names.inbox_keys(item_id)) if item.record.inbox else ():
            for key in await self.keys_under(collection, ""):
                change.delete(collection, key)
        if item.record.journaled:
            change.drop(names.journal_log(item_id))
        if item.record.logged:
            change.drop(names.item_log(item_id))
        if item.record.calls:
            change.delete(names.SWEEPS, item_id)
            for child_id in await self.keys_under(names.children(item_id), ""):
                change.delete(names.children(item_id), child_id)
                await self._forget_item(change, child_id)

    async def keys_under(self, collection: str, prefix: str) -> list[str]:
        """The keys of a collection that begin so."""
        found: list[str] = []
        after = prefix
        while page := await self._kernel.store.scan(collection, after, PAGE):
            keys = [document.key for document in page if document.key.startswith(prefix)]
            found += keys
            if len(keys) < len(page):
                break
            after = keys[-1]
        return found
