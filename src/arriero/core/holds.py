"""What a worker writes carries the token of its claim; here it is asked whether that is the newest."""

from __future__ import annotations

from arriero.core import names, records
from arriero.core.kernel import Kernel
from arriero.core.limits import check_events
from arriero.core.links import Link, Links
from arriero.core.records import ItemRecord, Loaded, StreamEntry
from arriero.types.errors import Fenced
from arriero.types.link import Event, check_event


class Holds:
    """Items in the hands of workers, and the events that those add."""

    def __init__(self, kernel: Kernel, links: Links) -> None:
        self._kernel = kernel
        self._links = links

    async def mine(self, item_id: str, token: str) -> Loaded[ItemRecord]:
        """The item of a token, read now."""
        return self.checked(await self._kernel.load(records.ITEM, names.ITEMS, item_id), item_id, token)

    def checked(self, item: Loaded[ItemRecord] | None, item_id: str, token: str) -> Loaded[ItemRecord]:
        """The item, if the token is the newest and the item has not ended."""
        if item is None or item.record.ended or not token or item.record.token != token:
            raise self.fenced(item_id)
        return item

    def fenced(self, item_id: str) -> Fenced:
        """The refusal of a token, which is counted."""
        self._links.refused += 1
        return Fenced(f"the claim on item {item_id!r} is no longer good: it ended or was claimed again")

    async def entries(self, link: Link, item: ItemRecord, events: list[Event]) -> list[StreamEntry]:
        """The events that are new, as stream entries."""
        if not events:
            return []
        check_events(events)
        for event in events:
            if not event.last:  # it holds a value, which may be as large as any
                check_event(event.type, memoryview(event.data).nbytes, self._kernel.config.max_event)
        seen = link.numbers.get(item.id)
        if seen is None:
            seen = await self._seen(item)
        now = self._kernel.clock()
        return [
            StreamEntry(
                kind="event",
                type=event.type,
                item=item.id,
                epoch=item.epoch,
                number=event.number,
                path=_joined(item.path, event.path),
                last=event.last,
                at=now,
                data=event.data,
            )
            for event in events
            if event.number >= seen
        ]

    async def _seen(self, item: ItemRecord) -> int:
        """How many events of this epoch are stored; asked after a reconnect only."""
        log = names.stream_log(item.task_id)
        seen, after = 0, 0
        while page := await self._kernel.store.read_log(log, after, 1000):
            for entry in page:
                event = records.ENTRY.decode(entry.value)
                if event.kind == "event" and event.item == item.id and event.epoch == item.epoch:
                    seen = max(seen, event.number + 1)
            after = page[-1].seq
        return seen


def _joined(path: str, below: str) -> str:
    return f"{path}/{below}" if path and below else path or below
