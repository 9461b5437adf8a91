"""Claims: which ready items a worker gets, in as few commits as possible."""

from __future__ import annotations

import logging

import msgspec

from arriero.core import names, records
from arriero.core.arrivals import arrivals_of
from arriero.core.kernel import REFUSED, Change, Kernel
from arriero.core.links import Link, Links
from arriero.core.making import context_for, grant_of
from arriero.core.parking import entries_of
from arriero.core.records import ItemRecord, Loaded, StreamEntry
from arriero.core.returns import IN_DOUBT
from arriero.types.errors import ArrieroError, LogEnded, StateConflict, StoreDamaged, UnknownTask
from arriero.types.link import Grant, Granted
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")

#: After so many lost workers an item runs alone on its worker, so that it takes no bystander with it.
SOLO = 2
#: How many bytes of input one answer carries; beyond them, a ring brings the next claim.
ROOM = 32 * 1024 * 1024
#: An input of so many bytes is weighed as the JSON text that it becomes.
HEAVY = 1024 * 1024


class _Round:
    """One claim under way. ``unsettled`` are the keys that were taken from the ready index and not granted yet."""

    __slots__ = ("grants", "room", "unsettled")

    def __init__(self) -> None:
        self.grants: list[Grant] = []
        self.unsettled: set[str] = set()
        self.room = ROOM


class Grants:
    """Gives ready items to links, the oldest first."""

    def __init__(self, kernel: Kernel, links: Links) -> None:
        self._kernel = kernel
        self._links = links
        links.on_fitting = self._give_soon

    def _give_soon(self, link: Link) -> None:
        self._kernel.agenda.after(0.0, "fitting", link.id, lambda: self._give_unasked(link))

    async def _give_unasked(self, link: Link) -> None:
        """What fits only this link, which has idle slots for it."""
        if not link.is_idle or not self._links.is_current(link):
            return
        free, link.free = link.free, 0
        if grants := await self.give(link, free):
            link.push(Granted(grants=grants))

    async def give(self, link: Link, free: int) -> list[Grant]:
        """At most ``free`` items. What was granted before something failed is given nevertheless.

        The slots left over are idle from then on, and a ring is sent for what they could have had.
        """
        taken = _Round()
        link.claiming += 1
        try:
            await self._take(link, free, taken)
        except ArrieroError as error:
            if not taken.grants:
                raise
            logger.warning("a claim for %s was cut short: %s", link.service, error)
        finally:
            link.claiming -= 1
            link.free = min(link.slots, link.free + free - len(taken.grants))
            for key in taken.unsettled:
                self._kernel.ready.add(link.service, key)
        self._ring_for_more(link)
        return taken.grants

    async def _take(self, link: Link, free: int, taken: _Round) -> None:
        while len(taken.grants) < free and taken.room > 0 and self._may_take(link):
            keys = await self._keys(link, free - len(taken.grants))
            if not keys:
                return
            taken.unsettled.update(keys)
            try:
                await self._commit(link, keys, taken)
            except (StateConflict, LogEnded):
                for key in keys:
                    await self._commit_one(link, key, taken)

    def _may_take(self, link: Link) -> bool:
        return link.alone is None and self._links.is_current(link)

    async def _keys(self, link: Link, most: int) -> list[str]:
        """What to claim next; nothing as long as an item waits for the others to end."""
        if link.solo is None:
            kept = self._links.kept.take((link.service, link.shape), most)
            return kept or await self._kernel.ready.take(link.service, most)
        if link.held or link.claiming > 1:
            return []
        key, link.solo = link.solo, None
        return [key]

    async def _commit_one(self, link: Link, key: str, taken: _Round) -> None:
        """One key alone, after it met a conflict together with others."""
        try:
            await self._commit(link, [key], taken)
        except (StateConflict, LogEnded):  # its task may have ended just now
            return

    async def _commit(self, link: Link, keys: list[str], taken: _Round) -> None:
        change = Change()
        grants: list[Grant] = []
        try:
            settled = await self._prepare_all(change, link, keys, grants, taken)
            if change.ops:
                await self._kernel.apply(change, durable=False)
            for grant in grants:
                if grant.journal:
                    await self._read_again(grant)
        except BaseException as error:
            link.alone = None  # nothing runs yet that this claim was to have run alone
            if not isinstance(error, REFUSED):
                for grant in grants:
                    self._links.returns.soon(grant.item_id, grant.token, IN_DOUBT)
            raise
        taken.unsettled.difference_update(settled)
        self._hand_over(link, grants, taken)

    async def _read_again(self, grant: Grant) -> None:
        """Whoever had the item until now may have written its journal between the look at it and the claim."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, grant.item_id)
        if item is not None and item.record.token == grant.token:
            grant.journal = await entries_of(self._kernel, item.record)

    def _hand_over(self, link: Link, grants: list[Grant], taken: _Round) -> None:
        """A link that was replaced while it claimed does not get what it claimed."""
        for grant in grants:
            if self._links.is_current(link):
                self._links.take(link, grant.item_id, grant.token)
                taken.grants.append(grant)
                taken.room -= _weight(grant)
            else:
                self._links.returns.soon(grant.item_id, grant.token)

    async def _prepare_all(
        self, change: Change, link: Link, keys: list[str], grants: list[Grant], taken: _Round
    ) -> list[str]:
        """Put the claims into the change until there is enough; gives the keys that it settles."""
        settled: list[str] = []
        room = taken.room
        for key in keys:
            if room <= 0 or not self._may_take(link):
                break
            item = await self._ready_item(change, link, key)
            if item is not None and self._links.leave_to_fitting(link, key, item.record):
                settled.append(key)
                continue
            if item is not None and not self._fits(link, key, item.record, busy=bool(grants or taken.grants)):
                break
            settled.append(key)
            grant = await self._grant(change, item.record, key) if item is not None else None
            if item is not None and grant is not None:
                self._put(change, link, item, grant)
                grants.append(grant)
                room -= _weight(grant)
        return settled

    def _fits(self, link: Link, key: str, item: ItemRecord, *, busy: bool) -> bool:
        """An item that has cost several workers is granted alone; until then, the link takes nothing else."""
        if item.losses < SOLO:
            return True
        if busy or link.held or link.claiming > 1:
            link.solo = link.solo or key
            return False
        link.alone = item.id
        return True

    async def _ready_item(self, change: Change, link: Link, key: str) -> Loaded[ItemRecord] | None:
        """The item; what cannot be claimed leaves the index, unless it becomes ready meanwhile."""
        item_id = names.dated(key)
        try:
            item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        except StoreDamaged as error:
            self._bury(change, link.service, key, error)
            return None
        if item is None:
            change.after.append(lambda: self._kernel.on_damaged(item_id, StoreDamaged(f"item {item_id} is missing")))
        if item is None or not _is_ready(item.record):
            change.expect(names.ITEMS, item_id, item.version if item else 0)
            change.delete(names.ready(link.service), key)
            return None
        deadline = item.record.deadline_at
        return item if deadline is None or deadline > self._kernel.clock() else None

    async def _grant(self, change: Change, item: ItemRecord, key: str) -> Grant | None:
        """The grant of an item; one whose task cannot be read leaves the index."""
        try:
            return await self._filled(item)
        except (StoreDamaged, UnknownTask) as error:
            self._bury(change, item.service, key, error)
            return None

    def _bury(self, change: Change, service: str, key: str, error: ArrieroError) -> None:
        """The item leaves the index, and its task fails."""
        item_id = names.dated(key)
        logger.error("item %s cannot be claimed: %s", item_id, error)
        damage = error if isinstance(error, StoreDamaged) else StoreDamaged(str(error))
        change.delete(names.ready(service), key)
        change.count(service, -1)
        change.after.append(lambda: self._kernel.on_damaged(item_id, damage))

    async def _filled(self, item: ItemRecord) -> Grant:
        task = await self._kernel.load(records.TASK, names.TASKS, item.task_id)
        if task is None:
            raise UnknownTask(f"item {item.id!r} belongs to no task")
        text = await self._kernel.values.input_of(item, task.record)
        context = await context_for(self._kernel, item)
        grant = grant_of(task.record, item, text, context, self._kernel.clock())
        grant.inbox = await arrivals_of(self._kernel, item)
        grant.journal = await entries_of(self._kernel, item)
        grant.skipped, grant.shape = item.base, item.shape
        return grant

    def _put(self, change: Change, link: Link, item: Loaded[ItemRecord], grant: Grant) -> None:
        record = item.record
        change.unready(record)
        record.status = TaskStatus.RUNNING
        record.epoch, record.token, record.worker_id = grant.epoch, grant.token, link.worker_id
        record.claimed_at = self._kernel.clock()
        record.started_at = record.started_at or record.claimed_at
        record.asked = record.asked_for_good  # what its journal does not hold is asked again
        resumes, record.parked = record.parked, False
        change.put(names.ITEMS, record.id, record, expect=item.version)
        change.put(names.held(link.worker_id), record.id, None)
        if record.epoch > 1 and not resumes:
            again = StreamEntry(
                kind="restarted", item=record.id, epoch=record.epoch, path=record.path, at=self._kernel.clock()
            )
            change.append(names.stream_log(record.task_id), again)

    def _ring_for_more(self, link: Link) -> None:
        """Idle slots could take what is ready: this link's, had the claim had room for it, or those of another."""
        if link.claiming:
            return
        own = link.solo if link.is_idle else None
        key = own or self._kernel.ready.oldest(link.service)
        if key is not None and self._links.idle(link.service):
            self._kernel.on_ready(link.service, names.dated(key))


def _is_ready(item: ItemRecord) -> bool:
    return item.status is TaskStatus.QUEUED and item.retry_at is None and not item.place


def _weight(grant: Grant) -> int:
    """How many bytes the grant takes on a link."""
    text = grant.input
    return len(text) if len(text) < HEAVY else len(msgspec.json.encode(text))
