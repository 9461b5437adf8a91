"""Runs that wait because their workflow has changed: gone on with, or begun anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from arriero.core import names, records
from arriero.core.arrivals import arrivals_of
from arriero.core.itemlog import note
from arriero.core.kernel import Change, Kernel
from arriero.core.outlook import open_children
from arriero.core.parking import unpark
from arriero.core.records import ItemRecord, TaskRecord, item_ids
from arriero.core.services import Services
from arriero.core.tasks import TRIES
from arriero.types.errors import NotStopped, StateConflict

PAGE = 1000

#: Puts what is to become of a stopped item into a change.
Ending = Callable[[Change, ItemRecord], Awaitable[None]]


class Changed:
    """Items are listed by their service and the shape of their journal while they wait for a worker of that shape."""

    def __init__(self, kernel: Kernel, services: Services) -> None:
        self._kernel = kernel
        self._services = services
        kernel.on_shape = self._welcome

    async def resume(self, task: TaskRecord) -> None:
        """Let any worker take what waits of the task; one of other steps leaves it again. Errors: ``NotStopped``."""
        await self._end(task, self._resume)

    async def restart(self, task: TaskRecord) -> None:
        """Forget how far what waits of the task had come: it is done anew. Errors: ``NotStopped``."""
        await self._end(task, self._restart)

    async def _end(self, task: TaskRecord, ending: Ending) -> None:
        found = [item_id async for item_id in self._stopped(item_ids(task))]
        ended = [item_id for item_id in found if await self._change(item_id, ending)]
        if not ended:
            raise NotStopped(f"task {task.id!r} does not wait because its workflow has changed ({task.status.value})")

    async def _stopped(self, ids: list[str]) -> AsyncIterator[str]:
        for item_id in ids:
            item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
            if item is None or item.record.ended:
                continue
            if item.record.misfit:
                yield item_id
            async for child_id in self._stopped([child.id for child in await open_children(self._kernel, item.record)]):
                yield child_id

    def _welcome(self, service: str, shape: str) -> None:
        """A worker of that shape has connected: what waits for one goes on."""
        self._kernel.agenda.after(0.0, "shape", f"{service}/{shape}", lambda: self._go_on(service, shape))

    async def _go_on(self, service: str, shape: str) -> None:
        prefix = names.misfit(shape, "")
        after = prefix
        while page := await self._kernel.store.scan(names.misfits(service), after, PAGE):
            fitting = [document.key for document in page if document.key.startswith(prefix)]
            for key in fitting:
                await self._change(key.removeprefix(prefix), self._fits)
            if len(fitting) < len(page):
                return
            after = page[-1].key

    async def _change(self, item_id: str, ending: Ending) -> bool:
        """Whether the item was stopped, and is so no more."""
        for _ in range(TRIES):
            item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
            if item is None or item.record.ended or not item.record.misfit:
                return False
            change = Change()
            await ending(change, item.record)
            change.put(names.ITEMS, item_id, item.record, expect=item.version)
            try:
                await self._kernel.apply(change)
            except StateConflict:
                continue
            return True
        raise StateConflict(f"item {item_id!r} keeps changing; try again")

    async def _fits(self, change: Change, item: ItemRecord) -> None:
        unpark(self._kernel, change, item, "a worker came whose workflow has its steps")

    async def _resume(self, change: Change, item: ItemRecord) -> None:
        unpark(self._kernel, change, item, "somebody had it resumed")

    async def _restart(self, change: Change, item: ItemRecord) -> None:
        """Its events from outside reach the new run too; those that its steps do not take have answered nothing."""
        unpark(self._kernel, change, item, "somebody had it restarted")
        note(self._kernel, change, item, "restarted", reason="its journal was dropped")
        change.drop(names.journal_log(item.id))
        item.journaled, item.shape, item.base = False, "", 0
        item.asked = item.asked_for_good = item.losses = 0
        accepts = self._services.require(item.service).accepts
        item.answered = sum(accepts.get(each.type, False) for each in await arrivals_of(self._kernel, item))
        item.parked = False  # so that its stream says that it begins anew
