"""What is stored of items twice, put back from the items themselves where a disk has damaged it."""

from __future__ import annotations

import logging

from arriero.core import names, records
from arriero.core.kernel import Change, Kernel
from arriero.core.records import ItemRecord, LaneRecord, Loaded, SessionRecord, TaskRecord, WorkerRecord, item_ids
from arriero.types.errors import StoreDamaged
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")

PAGE = 1000


async def mend_lane(kernel: Kernel, session_id: str, service: str) -> None:
    """Write a session's order for a service anew, as those of its items tell that can be read."""
    logger.error("the order of session %s for service %s was damaged, and is mended", session_id, service)
    key = names.lane(session_id, service)
    queue = names.lane_queue(key)
    change = Change()
    for document in await kernel.store.scan(queue, limit=PAGE):
        change.delete(queue, document.key)
    items = sorted(await _lane_items(kernel, session_id, service), key=_place)
    change.delete(names.LANES, key)
    if items:
        _put_lane(change, key, items[0], items[1:])
    await kernel.apply(change)


def _put_lane(change: Change, key: str, head: Loaded[ItemRecord], followers: list[Loaded[ItemRecord]]) -> None:
    queued = [head, *followers][-1].record.place
    change.put(names.LANES, key, LaneRecord(head=head.record.id, queued=queued, taken=queued - len(followers)))
    for each in followers:
        change.put(names.lane_queue(key), names.place(each.record.place), each.record.id)
    if head.record.place:
        head.record.place = 0
        change.put(names.ITEMS, head.record.id, head.record, expect=head.version)
        change.make_ready(head.record)


def _place(item: Loaded[ItemRecord]) -> int:
    return item.record.place


async def _lane_items(kernel: Kernel, session_id: str, service: str) -> list[Loaded[ItemRecord]]:
    """The items that have not ended and keep that order."""
    found: dict[str, Loaded[ItemRecord]] = {}
    after = ""
    while page := await kernel.store.scan(names.tasks_of(session_id), after, PAGE):
        for document in page:
            task = await open_task(kernel, names.dated(document.key))
            for item_id in item_ids(task) if task is not None else ():
                item = await open_item(kernel, item_id)
                if item is not None and item.record.service == service and not item.record.parallel:
                    found[item_id] = item  # a damaged list may name it twice
        after = page[-1].key
    return list(found.values())


async def open_task(kernel: Kernel, task_id: str) -> TaskRecord | None:
    """The task, if it can be read and has not ended."""
    try:
        task = await kernel.load(records.TASK, names.TASKS, task_id) if task_id else None
    except StoreDamaged:
        return None
    return task.record if task is not None and not task.record.ended else None


async def open_item(kernel: Kernel, item_id: str) -> Loaded[ItemRecord] | None:
    """The item, if it can be read and has not ended."""
    try:
        item = await kernel.load(records.ITEM, names.ITEMS, item_id)
    except StoreDamaged:
        return None
    return item if item is not None and not item.record.ended else None


class Mending:
    """Looks at every task that has not ended: what can be put back is, and a task that cannot be done fails."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._lanes: set[tuple[str, str]] = set()

    async def all(self) -> None:
        """Do it, before anything is claimed."""
        logger.error("something that was stored is damaged; every open task is looked at")
        after = ""
        while page := await self._kernel.store.scan(names.TASKS, after, PAGE):
            for document in page:
                await self._task(document.key)
            after = page[-1].key
        await self._orphans()
        for session_id, service in sorted(self._lanes):
            await mend_lane(self._kernel, session_id, service)

    async def _orphans(self) -> None:
        """Items whose task is gone."""
        after = ""
        while page := await self._kernel.store.scan(names.ITEMS, after, PAGE):
            for document in page:
                if not document.damaged and not await self._is_there(names.TASKS, document.key.split("/", 1)[0]):
                    self._kernel.on_damaged(document.key, StoreDamaged("its record is missing"))
            after = page[-1].key

    async def _task(self, task_id: str) -> None:
        try:
            task = await self._kernel.load(records.TASK, names.TASKS, task_id)
        except StoreDamaged as error:
            self._kernel.on_damaged(task_id, error)
            return
        if task is None:
            return
        change = Change()
        if not await self._is_there(names.SESSIONS, task.record.session_id):
            change.put(names.SESSIONS, task.record.session_id, SessionRecord(created_at=task.record.created_at))
        if task.record.ended:
            await self._finished(change, task.record)
            return
        change.put(names.tasks_of(task.record.session_id), names.dated_key(task.record.created_at, task_id), None)
        if task.record.deadline_at is not None:
            change.put(names.TIMERS, names.timer_key(task.record.deadline_at, "deadline", task_id), task_id)
        if task.record.undecided:
            await self._undecided(change, task.record)
        left = item_ids(task.record)
        while left:
            left += await self._item(change, left.pop())
        await self._kernel.apply(change)

    async def _undecided(self, change: Change, task: TaskRecord) -> None:
        """What is to be decided is known; what the first item was to begin with is not."""
        if await self._is_there(names.DECISIONS, task.id):
            return
        if task.undecided[0]:
            change.put(names.DECISIONS, task.id, None)
        else:
            self._kernel.on_damaged(task.id, StoreDamaged("what it begins with is missing"))

    async def _finished(self, change: Change, task: TaskRecord) -> None:
        """The list of what is to be removed one day."""
        key = names.dated_key(task.finished_at or self._kernel.clock(), task.id)
        if not await self._is_there(names.FINISHED, key):
            change.put(names.FINISHED, key, None)
        if change.ops:
            await self._kernel.apply(change)

    async def _item(self, change: Change, item_id: str) -> list[str]:
        """Put back what tells of an item; gives its children."""
        try:
            item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        except StoreDamaged as error:
            self._kernel.on_damaged(item_id, error)
            return []
        if item is None:
            self._kernel.on_damaged(item_id, StoreDamaged(f"item {item_id} is missing"))
            return []
        record = item.record
        if record.ended:
            return []
        if record.worker_id:
            await self._held(change, record)
        elif record.status is TaskStatus.QUEUED:
            self._queued(change, record)
        else:
            self._parked(change, record)
        if record.parent is not None:
            change.put(names.children(record.parent), record.id, None)
        elif not record.parallel:
            self._lanes.add((record.session_id, record.service))
        return await self._children(record)

    async def _children(self, item: ItemRecord) -> list[str]:
        found: list[str] = []
        after = ""
        while item.calls and (page := await self._kernel.store.scan(names.children(item.id), after, PAGE)):
            found += [document.key for document in page if not document.damaged]
            after = page[-1].key
        return found

    async def _held(self, change: Change, item: ItemRecord) -> None:
        change.put(names.held(item.worker_id), item.id, None)
        if not await self._is_there(names.WORKERS, item.worker_id):
            now = self._kernel.clock()
            worker = WorkerRecord(id=item.worker_id, service=item.service, link_id="", renewed_at=now)
            change.put(names.WORKERS, item.worker_id, worker)

    async def _is_there(self, collection: str, key: str) -> bool:
        try:
            return await self._kernel.store.get(collection, key) is not None
        except StoreDamaged:
            return False

    def _queued(self, change: Change, item: ItemRecord) -> None:
        if item.retry_at is not None:
            change.put(names.TIMERS, names.timer_key(item.retry_at, "retry", item.id), item.id)
        elif not item.place:
            change.put(names.ready(item.service), names.dated_key(item.created_at, item.id), None)

    def _parked(self, change: Change, item: ItemRecord) -> None:
        if item.wake_at is not None:
            change.put(names.TIMERS, names.timer_key(item.wake_at, "wake", item.id), item.id)
        if item.misfit:
            change.put(names.misfits(item.service), names.misfit(item.shape, item.id), None)
