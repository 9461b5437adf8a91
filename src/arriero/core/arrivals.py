"""Reading the events that were sent to an item."""

from __future__ import annotations

from arriero.core import names, records
from arriero.core.kernel import Kernel, decode
from arriero.core.records import ArrivalRecord, ItemRecord
from arriero.types.link import Arrival

PAGE = 1000


async def arrivals_of(kernel: Kernel, item: ItemRecord) -> list[Arrival]:
    """Every event that was sent to the item, in order."""
    if not item.inbox:
        return []
    found: list[Arrival] = []
    after = ""
    while page := await kernel.store.scan(names.inbox(item.id), after, PAGE):
        for document in page:
            record = decode(records.ARRIVAL, document.value, f"event {document.key} of item {item.id}")
            found.append(to_arrival(int(document.key), record))
        after = page[-1].key
    return found


def to_arrival(seq: int, record: ArrivalRecord) -> Arrival:
    return Arrival(seq=seq, type=record.type, data=record.data)
