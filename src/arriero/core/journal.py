"""Journals: how far items have come, kept before what follows is begun; and items that are left until they go on."""

from __future__ import annotations

from arriero.core import names, records
from arriero.core.holds import Holds
from arriero.core.itemlog import note_end
from arriero.core.kernel import Change, Kernel
from arriero.core.limits import bound_wait, check_journal
from arriero.core.links import Link, Links
from arriero.core.parking import unpark
from arriero.core.records import ItemRecord, Loaded
from arriero.core.tasks import TRIES
from arriero.types.errors import LogEnded, StateConflict, WorkflowChanged
from arriero.types.link import Journal, Wait
from arriero.types.tasks import TaskStatus

#: How many names a wait keeps.
SHOWN = 20


class Journals:
    """Every write carries the claim token, and is one commit with the events that belong to it."""

    def __init__(self, kernel: Kernel, links: Links, holds: Holds) -> None:
        self._kernel = kernel
        self._links = links
        self._holds = holds

    async def write(self, link: Link, frame: Journal) -> None:
        """Add an entry to the item's journal; one that is there already is not added again. Errors: ``Fenced``."""
        self._links.heard(link)
        check_journal(frame)
        async with self._kernel.turns.take(f"stream/{frame.item_id}"):
            for _ in range(TRIES):
                item = await self._holds.mine(frame.item_id, frame.token)
                if frame.number < await self._written(link, item.record):
                    return
                try:
                    await self._write(link, frame, item)
                except StateConflict:
                    continue
                except LogEnded:
                    raise self._holds.fenced(frame.item_id) from None
                return
        raise StateConflict(f"item {frame.item_id!r} keeps changing; write its journal again")

    async def _written(self, link: Link, item: ItemRecord) -> int:
        """How many entries there are; asked of the store once for each connection."""
        known = link.entries.get(item.id)
        if known is None:
            known = (await self._kernel.store.head(names.journal_log(item.id))).seq if item.journaled else 0
        return known

    async def _write(self, link: Link, frame: Journal, item: Loaded[ItemRecord]) -> None:
        record = item.record
        change = Change()
        change.append(names.journal_log(record.id), frame.entry)
        entries = await self._holds.entries(link, record, frame.events)
        if entries:
            change.append(names.stream_log(record.task_id), *entries)
            record.asked += sum(event.asks for event in frame.events[-len(entries) :])
        if frame.base:
            record.base = frame.number
        if frame.base or self._needs_note(record, frame):
            record.journaled, record.shape = True, frame.shape
            record.asked_for_good = record.asked
            record.losses = 0 if frame.durable else record.losses
            change.put(names.ITEMS, record.id, record, expect=item.version)
        else:
            change.expect(names.ITEMS, record.id, item.version)
        await self._kernel.apply(change, durable=frame.durable)
        if link.held.get(record.id) == frame.token:
            link.entries[record.id] = frame.number + 1
            if frame.events:
                link.numbers[record.id] = frame.events[-1].number + 1

    @staticmethod
    def _needs_note(record: ItemRecord, frame: Journal) -> bool:
        """Most entries change nothing of the item itself. One that is not durable tells of no step that has ended."""
        has_come_on = record.losses > 0 and frame.durable
        return not record.journaled or has_come_on or record.asked != record.asked_for_good

    async def wait(self, link: Link, wait: Wait) -> bool:
        """The item waits for an event, unless one came that its worker has not seen; gives whether it was left."""
        bound_wait(wait)
        for _ in range(TRIES):
            item = await self._holds.mine(wait.item_id, wait.token)
            status = TaskStatus.RUNNING if wait.over else TaskStatus.WAITING
            if not item.record.claimed:
                return False
            if item.record.inbox > wait.seen and not _misfits(item.record, wait):
                if not wait.over:
                    await self._links.on_missed(link, wait.item_id, wait.seen)
                return False
            awaits = [] if wait.over else [wait.reason] if wait.reason else wait.events[:SHOWN]
            says = status, awaits, wait.unmatched[:SHOWN]
            if says == (item.record.status, item.record.awaits, item.record.unmatched) and not wait.leave:
                return False
            item.record.status, item.record.awaits, item.record.unmatched = says
            try:
                await (self._park(link, item, wait) if wait.leave else self._put(item))
            except StateConflict:
                continue
            return wait.leave
        raise StateConflict(f"item {wait.item_id!r} keeps changing; say again that it waits")

    async def _put(self, item: Loaded[ItemRecord]) -> None:
        change = Change()
        change.put(names.ITEMS, item.record.id, item.record, expect=item.version)
        await self._kernel.apply(change, durable=False)

    async def _park(self, link: Link, item: Loaded[ItemRecord], wait: Wait) -> None:
        record = item.record
        change = Change()
        change.delete(names.held(record.worker_id), record.id)
        note_end(self._kernel, change, record, "parked", reason=wait.reason or ", ".join(wait.events))
        record.worker_id, record.token, record.parked = "", "", True
        if _misfits(record, wait):
            record.misfit = True
            change.put(names.misfits(record.service), names.misfit(record.shape, record.id), None)
        if wait.wake_after is not None:
            seconds = max(0.0, wait.wake_after)
            record.wake_at = self._kernel.clock() + seconds
            change.put(names.TIMERS, names.timer_key(record.wake_at, "wake", record.id), record.id)
            change.after.append(lambda: self._wake_after(seconds, record.id))
        change.put(names.ITEMS, record.id, record, expect=item.version)
        await self._kernel.apply(change)
        self._links.let_go(link, wait.item_id, wait.token)

    def _wake_after(self, seconds: float, item_id: str) -> None:
        self._kernel.agenda.after(seconds, "wake", item_id, lambda: self.wake(item_id))

    async def wake(self, item_id: str) -> None:
        """The time has come for an item that was left."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is None or not item.record.parked or item.record.status is not TaskStatus.WAITING:
            return
        change = Change()
        unpark(self._kernel, change, item.record, "its time had come")
        change.put(names.ITEMS, item_id, item.record, expect=item.version)
        await self._kernel.apply(change)


def _misfits(record: ItemRecord, wait: Wait) -> bool:
    """Whether it is left by a worker of other steps, to whom no event helps."""
    return wait.leave and bool(record.shape) and wait.reason.startswith(WorkflowChanged.code)
