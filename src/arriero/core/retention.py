"""Finished tasks go after their time, the oldest first and a few at once."""

from __future__ import annotations

import logging

from arriero.core import names, records
from arriero.core.children import Children
from arriero.core.kernel import Change, Kernel
from arriero.core.records import item_ids
from arriero.core.removal import Removal
from arriero.state_stores.base import Document
from arriero.types.errors import StoreDamaged

logger = logging.getLogger("arriero.core")

#: How many tasks are removed in one commit, so that others get their turn between two of them.
BATCH = 50


class Retention:
    """Removes ended tasks once ``keep_finished_for`` has passed.

    The commit that ends a task lists it by that moment. The next one due is waited for; while nothing is listed,
    nothing is done, until a task ends.
    """

    def __init__(self, kernel: Kernel, children: Children) -> None:
        self._kernel = kernel
        self._children = children
        self._keep = kernel.config.keep_finished_for
        self._removal = Removal(kernel)
        self._waits = False
        self.removed = 0

    def start(self) -> None:
        """Begin, also with what an earlier run left."""
        if self._keep is not None:
            self._kernel.on_finished = self._noticed
            self._again(0.0)

    async def sweep(self) -> None:
        """Remove what is due, and come again when the next one is."""
        assert self._keep is not None  # otherwise it was never started
        while page := await self._next():
            now = self._kernel.clock()
            due = [each for each in page if each.damaged or names.seconds(each.key) + self._keep <= now]
            if due:
                await self._remove(due)
            left = [each for each in page if each not in due]
            if left:
                self._again(names.seconds(left[0].key) + self._keep - now)
                return

    async def _next(self) -> list[Document]:
        """The oldest that are listed; a task that ends while this looks is waited for in any case."""
        self._waits = False
        return await self._kernel.store.scan(names.FINISHED, limit=BATCH)

    def _noticed(self) -> None:
        """A task has ended."""
        if not self._waits:
            assert self._keep is not None  # otherwise nobody would be told
            self._again(self._keep)

    def _again(self, delay: float) -> None:
        self._waits = True
        self._kernel.agenda.after(delay, "retention", "", self.sweep)

    async def _remove(self, due: list[Document]) -> None:
        change = Change()
        for document in due:
            change.delete(names.FINISHED, document.key)
            if not document.damaged:  # such a one may name any task
                await self._put(change, names.dated(document.key))
        await self._kernel.apply(change, durable=False)
        self.removed += len(due)

    async def _put(self, change: Change, task_id: str) -> None:
        try:
            loaded = await self._kernel.load(records.TASK, names.TASKS, task_id)
        except StoreDamaged:
            logger.exception("task %s is kept beyond its time", task_id)
            return
        if loaded is not None and loaded.record.ended:
            for item_id in item_ids(loaded.record):  # what is below it may still be about to end
                await self._children.settle(item_id)
            change.expect(names.TASKS, task_id, loaded.version)
            await self._removal.forget(change, loaded.record)
