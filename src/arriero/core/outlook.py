"""What keeps a task from going on, for those who look at it."""

from __future__ import annotations

from typing import Any

from arriero.core import names, records
from arriero.core.kernel import Kernel
from arriero.core.records import ItemRecord, TaskRecord
from arriero.types.tasks import TaskStatus

#: How many children are looked at together, and how many are shown.
PAGE = 200
SHOWN = 20
#: What names the service of which no worker is connected, among what a task waits for.
WORKER = "worker_of"


async def open_children(kernel: Kernel, item: ItemRecord, most: int = PAGE) -> list[ItemRecord]:
    """The children of an item that have not ended, at most so many."""
    found: list[ItemRecord] = []
    after = ""
    while item.calls and (page := await kernel.store.scan(names.children(item.id), after, PAGE)):
        for document in page:
            child = await kernel.load(records.ITEM, names.ITEMS, document.key)
            if child is not None and not child.record.ended:
                found.append(child.record)
                if len(found) == most:
                    return found
        after = page[-1].key
    return found


def reason(task: TaskRecord) -> str | None:
    """A sentence that says why nobody works on the task, when there is nobody who could."""
    for each in task.waits_for:
        if WORKER in each:
            return f"no worker of service {each[WORKER]!r} is connected"
    return None


async def waits_for(kernel: Kernel, item: ItemRecord) -> list[dict[str, Any]]:
    """What the item waits for: services that work for it, events from outside, its turn, or a time."""
    if item.status is TaskStatus.QUEUED:
        return await _before_it_runs(kernel, item)
    if item.wake_at is not None and not item.awaits:
        return [{"until": item.wake_at}]
    if item.status is TaskStatus.WAITING:
        return [{"events": item.awaits}, *([{"unmatched": item.unmatched}] if item.unmatched else [])]
    children = await open_children(kernel, item, SHOWN)
    waits: list[dict[str, Any]] = [{"service": child.service, "item_id": child.id} for child in children]
    return waits + ([{"answers": item.asked - item.answered}] if item.asked > item.answered else [])


async def _before_it_runs(kernel: Kernel, item: ItemRecord) -> list[dict[str, Any]]:
    if item.retry_at is not None:
        return [{"until": item.retry_at}]
    if not item.place:
        return []
    lane = await kernel.load(records.LANE, names.LANES, names.lane(item.session_id, item.service))
    return [{"task": lane.record.head.split("/", 1)[0]}] if lane is not None and lane.record.head else []
