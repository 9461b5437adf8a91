"""Children: work that an item has done by other services, and that ends with it."""

from __future__ import annotations

import copy
import logging

import msgspec

from arriero.core import names, records
from arriero.core.decisions import Verdict
from arriero.core.items import Items
from arriero.core.kernel import Change, Kernel
from arriero.core.limits import LONGEST_KEY, check_size
from arriero.core.records import ItemRecord, Loaded, TaskRecord
from arriero.core.services import Services
from arriero.core.tasks import TRIES, too_large
from arriero.types.errors import ErrorInfo, Fenced, StateConflict, StoreDamaged, TooDeep
from arriero.types.link import Call, Outcome
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")

#: How many children are looked at together.
PAGE = 200


class Children:
    """Starts the children of items, waits for them, and ends those whose parent has ended.

    A child is found again by its parent and the key of the call, so that a parent that runs again does not start it
    twice. One that did not succeed is done anew when its parent's attempt failed over it.
    """

    def __init__(self, kernel: Kernel, services: Services, items: Items) -> None:
        self._kernel = kernel
        self._services = services
        self._items = items
        kernel.on_sweep = self.sweep_soon

    async def start(self, call: Call) -> str:
        """Have the child done, unless it is known; gives its id.

        Errors: ``Fenced``, ``UnknownService``, ``TooDeep``, ``PayloadTooLarge``.
        """
        check_size(len(call.key), LONGEST_KEY, "the key of a call")
        if len(call.input) > self._kernel.config.max_input:
            raise too_large(len(call.input), self._kernel.config.max_input)
        if call.patient:
            await self._services.wait_for(call.service)
        self._services.require(call.service)
        if (await self._parent(call)).record.calls:
            return await self._start(call)
        async with self._kernel.turns.take(f"calls/{call.item_id}"):  # of many first calls, one notes it
            if not (await self._parent(call)).record.calls:
                return await self._start(call)
        return await self._start(call)

    async def _start(self, call: Call) -> str:
        """The first call is noted with its parent, in the same commit, so that the parent's end looks for children."""
        for number in range(TRIES):
            parent = await self._parent(call)
            child_id = names.child_id(parent.record.task_id, parent.record.id, call.key, 0)
            # To begin with, it is as good as certain that nobody has called it yet, and the commit finds out.
            if number:
                child_id, known = await self._find(parent.record, call)
                if known:
                    return child_id
            child = self._record(child_id, parent.record, call)
            self._kernel.offspring.born(parent.record.id, child_id, first=not parent.record.calls)
            change = Change()
            if parent.record.calls:
                change.expect(names.ITEMS, parent.record.id, parent.version)
            else:
                parent.record.calls = True
                change.put(names.ITEMS, parent.record.id, parent.record, expect=parent.version)
            change.put(names.children(parent.record.id), child_id, None)
            self._kernel.values.item(change.ops, child)
            await self._kernel.on_order(change, await self._task_of(parent.record), child)
            try:
                # What follows from it takes it to the disk; until then, the parent would start it again.
                await self._kernel.apply(change, durable=False)
            except StateConflict:
                continue
            return child_id
        raise StateConflict(f"the call of {call.service!r} met too many changes of item {call.item_id!r}; try again")

    async def outcome(self, child_id: str) -> Outcome:
        """How the child ended, as soon as it has."""
        while True:
            ending = self._kernel.endings.of(child_id)
            try:
                child = await self._kernel.load(records.ITEM, names.ITEMS, child_id)
                if child is None:
                    raise Fenced(f"item {child_id!r} was removed with its task")
                if child.record.ended:
                    return _outcome(child.record)
                await ending
            finally:
                self._kernel.endings.leave(child_id, ending)

    async def recover(self) -> None:
        """Go on with what an earlier run had not swept."""
        after = ""
        while page := await self._kernel.store.scan(names.SWEEPS, after):
            for document in page:
                self.sweep_soon(document.key)
            after = page[-1].key

    def sweep_soon(self, item_id: str) -> None:
        """The item has ended: its children are to end too."""
        self._kernel.agenda.after(0.0, "sweep", item_id, lambda: self._sweep(item_id))

    async def settle(self, item_id: str) -> None:
        """End whatever still works below an item that has ended, now."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is None or not item.record.calls:
            return
        await self._sweep(item_id)
        after = ""
        while page := await self._kernel.store.scan(names.children(item_id), after, PAGE):
            for document in page:
                await self.settle(document.key)
            after = page[-1].key

    async def _sweep(self, item_id: str) -> None:
        after = ""
        while page := await self._kernel.store.scan(names.children(item_id), after, PAGE):
            for document in page:
                await self._end(document.key, item_id)
            after = page[-1].key
        change = Change()
        change.delete(names.SWEEPS, item_id)
        await self._kernel.apply(change, durable=False)

    async def _end(self, child_id: str, parent_id: str) -> None:
        async with self._kernel.turns.take(child_id):
            for _ in range(TRIES):
                try:
                    child = await self._kernel.load(records.ITEM, names.ITEMS, child_id)
                except StoreDamaged:
                    logger.exception("child %s cannot be ended", child_id)
                    return
                if child is None or child.record.ended:
                    return
                before = copy.copy(child.record)
                change = Change()
                error = ErrorInfo(
                    code="task_cancelled", type="TaskCancelled", message=f"its parent, item {parent_id}, has ended"
                )
                await self._items.end_child(change, child, Verdict(TaskStatus.CANCELLED, error=error))
                try:
                    await self._kernel.apply(change)
                except StateConflict:
                    continue
                self._kernel.on_stop(before, TaskStatus.CANCELLED.value)
                return
        raise StateConflict(f"child {child_id!r} could not be ended for all the changes to it")

    async def _task_of(self, parent: ItemRecord) -> TaskRecord:
        task = await self._kernel.load(records.TASK, names.TASKS, parent.task_id)
        if task is None:
            raise Fenced(f"item {parent.id!r} was removed with its task")
        return task.record

    async def _parent(self, call: Call) -> Loaded[ItemRecord]:
        parent = await self._kernel.load(records.ITEM, names.ITEMS, call.item_id)
        if parent is None or parent.record.ended or not call.token or parent.record.token != call.token:
            raise Fenced(f"the claim on item {call.item_id!r} is no longer good: it ended or was claimed again")
        limit = self._kernel.config.max_nesting
        if parent.record.depth >= limit:
            raise TooDeep(
                f"{call.service!r} would be called {parent.record.depth + 1} services deep; the limit is {limit} "
                "(setting max_nesting of ControlPlaneConfig, CONTROL_PLANE_MAX_NESTING)",
                path=parent.record.path,
                limit=limit,
            )
        return parent

    async def _find(self, parent: ItemRecord, call: Call) -> tuple[str, bool]:
        """The child that the call means, and whether it is there."""
        generation = 0
        while True:
            child_id = names.child_id(parent.task_id, parent.id, call.key, generation)
            child = await self._kernel.load(records.ITEM, names.ITEMS, child_id)
            if child is None:
                return child_id, False
            failed = child.record.ended and child.record.status is not TaskStatus.COMPLETED
            if not failed or child.record.called_in >= parent.attempt:
                return child_id, True
            generation += 1

    def _record(self, child_id: str, parent: ItemRecord, call: Call) -> ItemRecord:
        return ItemRecord(
            id=child_id,
            task_id=parent.task_id,
            session_id=parent.session_id,
            service=call.service,
            created_at=parent.created_at,
            called_at=self._kernel.clock(),
            input=call.input,
            parallel=True,  # a child takes part in no session's order, whatever its service says
            deadline_at=parent.deadline_at,
            parent=parent.id,
            key=call.key,
            called_in=parent.attempt,
            path=f"{parent.path}/{call.service}" if parent.path else call.service,
        )


def _outcome(child: ItemRecord) -> Outcome:
    """What its parent is told. Its retries are used up, so the failure is final for the parent too."""
    error = msgspec.structs.replace(child.error, retryable=False) if child.error is not None else None
    return Outcome(status=child.status, value=child.value, error=error)
