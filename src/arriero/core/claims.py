"""Claims, streams and reports: what a worker does with items, every time under its token."""

from __future__ import annotations

import logging

import msgspec

from arriero.core import names, records
from arriero.core.decisions import Verdict
from arriero.core.grants import Grants
from arriero.core.holds import Holds
from arriero.core.items import Items
from arriero.core.kernel import Change, Kernel
from arriero.core.limits import check_report
from arriero.core.links import Link, Links
from arriero.core.records import ItemRecord, Loaded
from arriero.core.tasks import TRIES
from arriero.types.errors import ArrieroError, Fenced, LogEnded, StateConflict
from arriero.types.link import Event, Grant, Report
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")


class Claims:
    """The use cases of a link. Every write carries the claim token; an old one is :class:`Fenced`."""

    def __init__(self, kernel: Kernel, links: Links, items: Items, holds: Holds) -> None:
        self._kernel = kernel
        self._links = links
        self._items = items
        self._grants = Grants(kernel, links)
        self._holds = holds

    async def claim(self, link: Link, free: int) -> list[Grant]:
        """At most ``free`` items for the link, the oldest first.

        A claim for none says that a ring came to a worker without free slots; others may have some.
        Slots that are asked for are not idle until they were answered with nothing: that is when they need a ring.
        """
        self._kernel.on_claim(link.service)
        self._links.heard(link)
        link.free = max(0, link.free - free) if free else 0
        return await self._grants.give(link, max(0, free))

    async def claim_more(self, link: Link, free: int) -> list[Grant]:
        """The claim that comes with a report, for slots that were at work. Should it fail, the report stands."""
        if free <= 0:
            return []
        try:
            return await self._grants.give(link, free)
        except ArrieroError as error:
            logger.warning("a claim for %s failed: %s", link.service, error)
            return []

    async def emit(self, link: Link, item_id: str, token: str, events: list[Event]) -> None:
        """Append events to the item's stream; repeats are dropped, also of those that are just being appended."""
        self._links.heard(link)
        async with self._kernel.turns.take(f"stream/{item_id}"):
            for _ in range(TRIES):
                item = await self._holds.mine(item_id, token)
                change = Change()
                new = await self._holds.entries(link, item.record, events)
                if not new:
                    return
                if asks := sum(event.asks for event in events[-len(new) :]):
                    item.record.asked += asks
                    change.put(names.ITEMS, item_id, item.record, expect=item.version)
                else:
                    change.expect(names.ITEMS, item_id, item.version)
                change.append(names.stream_log(item.record.task_id), *new)
                try:
                    await self._kernel.apply(change)
                except StateConflict:
                    continue
                except LogEnded:
                    raise self._holds.fenced(item_id) from None
                if link.held.get(item_id) == token:
                    link.numbers[item_id] = events[-1].number + 1
                return
        raise StateConflict(f"the stream of item {item_id!r} keeps changing; try again")

    async def report(self, link: Link, report: Report) -> None:
        """End the item, or queue it for another attempt. A report that was taken before is taken again silently."""
        self._links.heard(link)
        check_report(report)
        item = await self._kernel.load(records.ITEM, names.ITEMS, report.item_id)
        if item is None:
            raise self._holds.fenced(report.item_id)
        async with self._kernel.turns.take(item.record.turn):
            try:
                await self._end_at_last(link, report)
            except Fenced:
                self._links.let_go(link, report.item_id, report.token)
                raise
            self._links.let_go(link, report.item_id, report.token)

    async def release(self, link: Link, tokens: dict[str, str]) -> None:
        """Queue items again that the worker gives back."""
        for item_id, token in tokens.items():
            await self._links.returns.of_token(item_id, token, lost=False, why="its worker gave it back")
            self._links.let_go(link, item_id, token)

    async def _end_at_last(self, link: Link, report: Report) -> None:
        for _ in range(TRIES):
            try:
                return await self._end(link, report)
            except StateConflict:
                continue
            except LogEnded:
                raise self._holds.fenced(report.item_id) from None
        raise StateConflict(f"the report of item {report.item_id!r} met too many changes; send it again")

    async def _end(self, link: Link, report: Report) -> None:
        seen = await self._kernel.load(records.ITEM, names.ITEMS, report.item_id)
        if seen is not None and seen.record.reported == report.token != "":
            return
        item = self._holds.checked(seen, report.item_id, report.token)
        task = await self._kernel.load(records.TASK, names.TASKS, item.record.task_id)
        if task is None:
            raise self._holds.fenced(report.item_id)
        change = Change()
        entries = await self._holds.entries(link, item.record, report.events)
        if entries:
            change.append(names.stream_log(task.record.id), *entries)
        item.record.attempt += 1
        item.record.reported = report.token
        if self._may_retry(report, item.record):
            self._retry(change, item, report)
        else:
            self._keep_context(change, item.record, report)
            item.record.last_step, item.record.took = report.step, report.took
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
        await self._kernel.apply(change)  # after another change of it, this is done again

    def _keep_context(self, change: Change, item: ItemRecord, report: Report) -> None:
        if report.context is not None and not item.parallel and report.error is None:
            change.put(names.CONTEXTS, names.lane(item.session_id, item.service), report.context)


def _verdict(report: Report) -> Verdict:
    if report.error is not None:
        return Verdict(TaskStatus.FAILED, error=report.error)
    return Verdict(TaskStatus.COMPLETED, value=msgspec.Raw(report.value))
