"""Items that come back from their workers without a verdict."""

from __future__ import annotations

from arriero.core import names, records
from arriero.core.decisions import Verdict
from arriero.core.itemlog import note_end
from arriero.core.items import Items
from arriero.core.kernel import Change, Kernel
from arriero.core.records import ItemRecord, Loaded
from arriero.core.tasks import TRIES
from arriero.types.errors import ErrorInfo, LogEnded, StateConflict, StoreDamaged
from arriero.types.tasks import TaskStatus

#: Seconds after which an item goes back of whose claim nobody knows whether it took effect: by then it has or has not.
IN_DOUBT = 1.0
UNREAD = "it was granted, and the worker was not there any more"


class Returns:
    """Queues items again whose workers gave them back, were lost, or never got them."""

    def __init__(self, kernel: Kernel, items: Items) -> None:
        self._kernel = kernel
        self._items = items
        #: By item, the tokens of which each may be the one under which nobody has it.
        self._granted_to_nobody: dict[str, set[str]] = {}

    async def of_worker(self, worker_id: str, keep: dict[str, str], *, lost: bool, why: str) -> dict[str, str]:
        """Queue again whatever the worker holds beside the tokens to ``keep``; gives those that it has kept."""
        kept: dict[str, str] = {}
        after = ""
        while page := await self._kernel.store.scan(names.held(worker_id), after):
            for document in page:
                item = await self._item(document.key)
                if item is not None and keep.get(item.record.id) == item.record.token:
                    kept[item.record.id] = item.record.token
                elif item is not None:
                    await self.of_item(item.record, lost=lost, why=why)
            after = page[-1].key
        return kept

    async def _item(self, item_id: str) -> Loaded[ItemRecord] | None:
        try:
            return await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        except StoreDamaged as error:
            self._kernel.on_damaged(item_id, error)
            return None

    def soon(self, item_id: str, token: str, delay: float = 0.0) -> None:
        """Queue an item again that was granted to nobody who is there.

        Of several tries to grant it, one may have taken effect: so each of their tokens counts.
        """
        self._granted_to_nobody.setdefault(item_id, set()).add(token)
        self._kernel.agenda.after(delay, "return", item_id, lambda: self._of_nobody(item_id))

    async def _of_nobody(self, item_id: str) -> None:
        tokens = frozenset(self._granted_to_nobody.get(item_id, ()))
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is not None and item.record.token in tokens:
            await self.of_item(item.record, lost=False, why=UNREAD)
        left = self._granted_to_nobody.pop(item_id, set()) - tokens  # those that were added meanwhile
        if left:
            self._granted_to_nobody[item_id] = left

    async def of_token(self, item_id: str, token: str, *, lost: bool, why: str) -> None:
        """Queue the item again if this is still its token."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is not None and item.record.token == token:
            await self.of_item(item.record, lost=lost, why=why)

    async def of_item(self, seen: ItemRecord, *, lost: bool, why: str) -> None:
        """Queue one item again, or declare it dead after too many losses. An end of it, or a newer claim, wins."""
        async with self._kernel.turns.take(seen.turn):
            for _ in range(TRIES):
                item = await self._kernel.load(records.ITEM, names.ITEMS, seen.id)
                if item is None or not item.record.claimed or item.record.token != seen.token:
                    return None
                try:
                    return await self._return(item, lost=lost, why=why)
                except StateConflict:
                    continue
                except LogEnded:
                    return None  # its task has ended
        raise StateConflict(f"item {seen.id!r} could not be queued again for all the changes to it")

    async def _return(self, item: Loaded[ItemRecord], *, lost: bool, why: str) -> None:
        item.record.losses += 1 if lost else 0
        change = Change()
        if item.record.losses >= self._kernel.config.max_losses:
            await self._bury(change, item, why)
        else:
            self._items.requeue(change, item, lost=lost, reason=why)
        await self._kernel.apply(change)

    async def _bury(self, change: Change, item: Loaded[ItemRecord], why: str) -> None:
        task = await self._kernel.load(records.TASK, names.TASKS, item.record.task_id)
        if task is None:
            return
        note_end(self._kernel, change, item.record, "lost", reason=why)
        limit = self._kernel.config.max_losses
        error = ErrorInfo(
            code="task_dead",
            type="TaskDead",
            message=f"{item.record.losses} workers of service {item.record.service!r} were lost while they ran it; "
            f"the limit is {limit} (setting max_losses)",
            details={"losses": item.record.losses, "limit": limit, "setting": "max_losses"},
        )
        await self._items.end(change, task, item, Verdict(TaskStatus.DEAD, error=error))
