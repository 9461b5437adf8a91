"""The order of a session's items for one service: one runs, the others wait behind it."""

from __future__ import annotations

import logging

from arriero.core import names, records
from arriero.core.kernel import Change, Kernel
from arriero.core.records import ItemRecord, LaneRecord, Loaded
from arriero.types.errors import StoreDamaged

logger = logging.getLogger("arriero.core")

#: How many items that cannot be read are passed over at once.
SKIPPED = 16


class Lanes:
    """Items enter a lane when they are ordered and leave it when they end. Callers hold the session's turn."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def enter(self, change: Change, item: ItemRecord) -> None:
        """Make the item ready, or put it behind those before it."""
        if item.parallel:
            change.make_ready(item)
            return
        lane, version = await self._lane(item)
        if lane.head is None:
            lane.head = item.id
            change.make_ready(item)
        else:
            lane.queued += 1
            item.place = lane.queued
            change.put(names.lane_queue(_key(item)), f"{item.place:012d}", item.id)
        change.put(names.LANES, _key(item), lane, expect=version)

    async def leave(self, change: Change, item: ItemRecord) -> None:
        """The item has ended: the next one of its lane becomes ready."""
        if item.parallel:
            return
        lane, version = await self._lane(item)
        if lane.head == item.id:
            lane.head = None
            if lane.waiting > 0:
                await self._advance(change, item, lane)
        elif item.place:
            lane.taken += 1
            change.delete(names.lane_queue(_key(item)), f"{item.place:012d}")
        change.put(names.LANES, _key(item), lane, expect=version)

    async def _advance(self, change: Change, item: ItemRecord, lane: LaneRecord) -> None:
        queue = names.lane_queue(_key(item))
        for document in await self._kernel.store.scan(queue, limit=SKIPPED):
            change.delete(queue, document.key)
            lane.taken += 1
            follower = await self._follower(document.value)
            if follower is not None:
                lane.head = follower.record.id
                follower.record.place = 0
                change.put(names.ITEMS, follower.record.id, follower.record, expect=follower.version)
                change.make_ready(follower.record)
                return

    async def _follower(self, value: bytes) -> Loaded[ItemRecord] | None:
        item_id: str = records.TEXT.decode(value)
        try:
            return await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        except StoreDamaged:
            logger.exception("item %s is skipped in its session's order", item_id)
            return None

    async def _lane(self, item: ItemRecord) -> tuple[LaneRecord, int]:
        loaded = await self._kernel.load(records.LANE, names.LANES, _key(item))
        return (loaded.record, loaded.version) if loaded else (LaneRecord(), 0)


def _key(item: ItemRecord) -> str:
    return names.lane(item.session_id, item.service)
