"""The order of a session's items for one service: one runs, the others wait behind it."""

from __future__ import annotations

import logging

from arriero.core import names, records
from arriero.core.kernel import Change, Kernel
from arriero.core.mending import mend_lane
from arriero.core.records import ItemRecord, LaneRecord, Loaded
from arriero.state_stores.base import Delete, Document
from arriero.types.errors import StateConflict, StoreDamaged

logger = logging.getLogger("arriero.core")

#: How many followers are looked at together.
PAGE = 16


class Lanes:
    """Items enter a lane when they are ordered and leave it when they end. Callers hold the session's turn.

    A lane that nobody is in is not stored, so that those in use can be counted.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        #: Lanes that were mended: what is still damaged in them was put there by the damage.
        self._mended: set[str] = set()

    async def enter(self, change: Change, item: ItemRecord) -> bool:
        """Whether the item may run now; otherwise it is put behind those before it."""
        if item.parallel:
            return True
        lane = await self._lane(change, item)
        if lane.record.head is None:
            lane.record.head = item.id
        else:
            lane.record.queued += 1
            item.place = lane.record.queued
            change.put(names.lane_queue(_key(item)), names.place(item.place), item.id)
            change.count(item.service, 1)
        change.put(names.LANES, _key(item), lane.record, expect=lane.version)
        return not item.place

    async def leave(self, change: Change, item: ItemRecord) -> None:
        """The item has ended: the next one of its lane becomes ready.

        Of several items that leave a lane in one change, the head is the last.
        """
        if item.parallel:
            return
        lane = await self._lane(change, item)
        if lane.record.head == item.id:
            lane.record.head = None
            await self._advance(change, item, lane.record)
        elif item.place:
            lane.record.taken += 1
            change.delete(names.lane_queue(_key(item)), names.place(item.place))
            change.count(item.service, -1)
        if lane.record.is_empty:
            change.expect(names.LANES, _key(item), lane.version)
            change.delete(names.LANES, _key(item))
        else:
            change.put(names.LANES, _key(item), lane.record, expect=lane.version)

    async def _advance(self, change: Change, item: ItemRecord, lane: LaneRecord) -> None:
        queue, after = names.lane_queue(_key(item)), ""
        left = {op.key for op in change.ops if isinstance(op, Delete) and op.collection == queue}
        while lane.waiting > 0 and (page := await self._kernel.store.scan(queue, after, PAGE)):
            for document in page:
                if document.key in left:
                    continue
                change.delete(queue, document.key)
                change.count(item.service, -1)
                lane.taken += 1
                follower = await self._follower(item, document)
                if follower is not None:
                    lane.head = follower.record.id
                    follower.record.place = 0
                    change.put(names.ITEMS, follower.record.id, follower.record, expect=follower.version)
                    change.make_ready(follower.record)
                    return
            after = page[-1].key

    async def _follower(self, item: ItemRecord, document: Document) -> Loaded[ItemRecord] | None:
        if document.damaged:
            if _key(item) in self._mended:
                return None
            await self._mend(item)
            raise StateConflict(f"the order of session {item.session_id!r} was mended")
        item_id: str = records.TEXT.decode(document.value)
        try:
            return await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        except StoreDamaged:
            logger.exception("item %s is skipped in its session's order", item_id)
            return None

    async def _lane(self, change: Change, item: ItemRecord) -> Loaded[LaneRecord]:
        """The lane as the change leaves it so far."""
        key = _key(item)
        if key not in change.lanes:
            change.lanes[key] = await self._load(item) or Loaded(LaneRecord(), 0)
        return change.lanes[key]

    async def _load(self, item: ItemRecord) -> Loaded[LaneRecord] | None:
        try:
            return await self._kernel.load(records.LANE, names.LANES, _key(item))
        except StoreDamaged:
            await self._mend(item)
            return await self._kernel.load(records.LANE, names.LANES, _key(item))

    async def _mend(self, item: ItemRecord) -> None:
        self._mended.add(_key(item))
        await mend_lane(self._kernel, item.session_id, item.service)


def _key(item: ItemRecord) -> str:
    return names.lane(item.session_id, item.service)
