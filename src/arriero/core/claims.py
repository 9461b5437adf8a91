"""Claims, streams and reports: what a worker does with items, every time under its token."""

from __future__ import annotations

import logging
import time

import msgspec

from arriero.core import names, records
from arriero.core.decisions import Verdict
from arriero.core.items import Items
from arriero.core.kernel import Change, Kernel
from arriero.core.links import Link, Links
from arriero.core.ready import item_of
from arriero.core.records import ItemRecord, Loaded, StreamEntry
from arriero.core.tasks import TRIES
from arriero.types.errors import ArrieroError, Fenced, StateConflict, StoreDamaged, UnknownTask
from arriero.types.ids import generate_token
from arriero.types.link import Event, Grant, Report
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")


class Claims:
    """The use cases of a link. Every write carries the claim token; an old one is :class:`Fenced`."""

    def __init__(self, kernel: Kernel, links: Links, items: Items) -> None:
        self._kernel = kernel
        self._links = links
        self._items = items

    async def claim(self, link: Link, free: int) -> list[Grant]:
        """At most ``free`` items for the link, the oldest first.

        Slots that are asked for are not idle until they were answered with nothing: that is when they need a ring.
        """
        link.free = max(0, link.free - free)
        grants: list[Grant] = []
        while len(grants) < free:
            keys = await self._kernel.ready.take(link.service, free - len(grants))
            if not keys:
                break
            grants += await self._claim_keys(link, keys)
        link.free += free - len(grants)
        return grants

    async def claim_more(self, link: Link, free: int) -> list[Grant]:
        """The claim that comes with a report. Should it fail, the report stands, and a ring brings the next claim."""
        if not free:
            return []
        try:
            return await self.claim(link, free)
        except ArrieroError as error:
            logger.warning("a claim for %s failed: %s", link.service, error)
            link.free += free
            return []

    async def emit(self, link: Link, item_id: str, token: str, events: list[Event]) -> None:
        """Append events to the item's stream; repeats are dropped."""
        for _ in range(TRIES):
            item = await self._mine(item_id, token)
            change = Change()
            new = await self._entries(link, item.record, events)
            if not new:
                return
            change.expect(names.ITEMS, item_id, item.version)
            change.append(names.stream_log(item.record.task_id), *new)
            try:
                await self._kernel.apply(change)
            except StateConflict:
                continue
            link.numbers[item_id] = events[-1].number + 1
            return
        raise StateConflict(f"the stream of item {item_id!r} keeps changing; try again")

    async def report(self, link: Link, report: Report) -> None:
        """End the item, or queue it for another attempt. A report that was taken before is taken again silently."""
        session_id = await self._session_of(report)
        if session_id is None:
            return
        async with self._kernel.turns.take(session_id):
            for _ in range(TRIES):
                try:
                    await self._end(link, report)
                except StateConflict:
                    continue
                link.held.pop(report.item_id, None)
                link.numbers.pop(report.item_id, None)
                return
        raise StateConflict(f"the report of item {report.item_id!r} met too many changes; send it again")

    async def release(self, link: Link, tokens: dict[str, str]) -> None:
        """Queue items again that the worker gives back."""
        for item_id, token in tokens.items():
            item = await self._mine(item_id, token)
            link.held.pop(item_id, None)
            await self._links.give_back_item(item.record, lost=False)

    async def _claim_keys(self, link: Link, keys: list[str]) -> list[Grant]:
        """One commit for all of them; where another change got in between, one commit for each."""
        try:
            return await self._commit_claims(link, keys)
        except StateConflict:
            grants: list[Grant] = []
            for key in keys:
                try:
                    grants += await self._commit_claims(link, [key])
                except StateConflict:
                    continue
            return grants

    async def _commit_claims(self, link: Link, keys: list[str]) -> list[Grant]:
        change = Change()
        grants: list[Grant] = []
        for key in keys:
            grant = await self._prepare(change, link, key)
            if grant is not None:
                grants.append(grant)
        if change.ops:
            try:
                await self._kernel.apply(change, durable=False)
            except BaseException:
                for key in keys:
                    self._kernel.ready.add(link.service, key)
                raise
        for grant in grants:
            link.held[grant.item_id] = grant.token
            link.numbers[grant.item_id] = 0
        return grants

    async def _prepare(self, change: Change, link: Link, key: str) -> Grant | None:
        """Put the claim of one ready item into the change; what cannot be claimed leaves the index."""
        try:
            item = await self._kernel.load(records.ITEM, names.ITEMS, item_of(key))
            if item is None or item.record.status is not TaskStatus.QUEUED:
                change.delete(names.ready(link.service), key)
                return None
            grant = await self._grant(item.record)
        except (StoreDamaged, UnknownTask):
            change.delete(names.ready(link.service), key)
            return None
        record = item.record
        if record.deadline_at is not None and record.deadline_at <= self._kernel.clock():
            return None
        self._take(change, link, item, grant)
        return grant

    def _take(self, change: Change, link: Link, item: Loaded[ItemRecord], grant: Grant) -> None:
        record = item.record
        change.unready(record)
        record.status = TaskStatus.RUNNING
        record.epoch, record.token, record.worker_id = grant.epoch, grant.token, link.worker_id
        record.started_at = record.started_at or self._kernel.clock()
        change.put(names.ITEMS, record.id, record, expect=item.version)
        change.put(names.held(link.worker_id), record.id, None)
        if record.epoch > 1:
            again = StreamEntry(kind="restarted", item=record.id, epoch=record.epoch, at=self._kernel.clock())
            change.append(names.stream_log(record.task_id), again)

    async def _grant(self, item: ItemRecord) -> Grant:
        task = await self._kernel.load(records.TASK, names.TASKS, item.task_id)
        if task is None:
            raise UnknownTask(f"item {item.id!r} belongs to no task")
        context = await self._kernel.load(records.TEXT, names.CONTEXTS, names.lane(item.session_id, item.service))
        left = None if item.deadline_at is None else max(0.0, item.deadline_at - self._kernel.clock())
        return Grant(
            item_id=item.id,
            task_id=item.task_id,
            session_id=item.session_id,
            service=item.service,
            token=generate_token(),
            epoch=item.epoch + 1,
            attempt=item.attempt + 1,
            input=item.input if item.input is not None else task.record.input,
            context=context.record if context else None,
            deadline=left,
            headers=task.record.headers,
        )

    async def _session_of(self, report: Report) -> str | None:
        """The session of the reported item; None when this very report was taken before."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, report.item_id)
        if item is None:
            raise self._fenced(report.item_id)
        return None if item.record.reported == report.token else item.record.session_id

    async def _end(self, link: Link, report: Report) -> None:
        item = await self._mine(report.item_id, report.token)
        task = await self._kernel.load(records.TASK, names.TASKS, item.record.task_id)
        if task is None:
            raise self._fenced(report.item_id)
        change = Change()
        entries = await self._entries(link, item.record, report.events)
        if entries:
            change.append(names.stream_log(task.record.id), *entries)
        item.record.attempt += 1
        item.record.reported = report.token
        if self._may_retry(report, item.record):
            self._retry(change, item, report)
        else:
            self._keep_context(change, item.record, report)
            await self._items.end(change, task, item, _verdict(report))
        await self._kernel.apply(change)

    def _may_retry(self, report: Report, item: ItemRecord) -> bool:
        error = report.error
        return error is not None and error.retryable and item.attempt <= self._kernel.orchestrator.max_retries

    def _retry(self, change: Change, item: Loaded[ItemRecord], report: Report) -> None:
        assert report.error is not None  # asked by the caller
        delay = self._items.retry_later(change, item, report.error)
        item_id = item.record.id
        change.after.append(lambda: self._kernel.agenda.after(delay, "retry", item_id, lambda: self.retry(item_id)))

    async def retry(self, item_id: str) -> None:
        """The delay of a failed item has passed: it may be claimed again."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is None or item.record.status is not TaskStatus.QUEUED or item.record.retry_at is None:
            return
        change = Change()
        self._items.retry_now(change, item)
        try:
            await self._kernel.apply(change)
        except StateConflict:
            return

    def _keep_context(self, change: Change, item: ItemRecord, report: Report) -> None:
        if report.context is not None and not item.parallel and report.error is None:
            change.put(names.CONTEXTS, names.lane(item.session_id, item.service), report.context)

    async def _mine(self, item_id: str, token: str) -> Loaded[ItemRecord]:
        """The item, if the token is the newest and the item has not ended."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is None or item.record.ended or not token or item.record.token != token:
            raise self._fenced(item_id)
        return item

    def _fenced(self, item_id: str) -> Fenced:
        self._links.refused += 1
        return Fenced(f"the claim on item {item_id!r} is no longer good: it ended or was claimed again")

    async def _entries(self, link: Link, item: ItemRecord, events: list[Event]) -> list[StreamEntry]:
        """The events that are new, as stream entries."""
        if not events:
            return []
        seen = link.numbers.get(item.id)
        if seen is None:
            seen = await self._seen(item)
        now = time.time()
        return [
            StreamEntry(
                kind="event",
                type=event.type,
                item=item.id,
                epoch=item.epoch,
                number=event.number,
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


def _verdict(report: Report) -> Verdict:
    if report.error is not None:
        return Verdict(TaskStatus.FAILED, error=report.error)
    return Verdict(TaskStatus.COMPLETED, value=msgspec.Raw(report.value))
