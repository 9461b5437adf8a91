"""New items for workers that are idle: claimed in the commit that orders them, and granted without being asked for."""

from __future__ import annotations

from arriero.core import names
from arriero.core.kernel import REFUSED, Change, Kernel
from arriero.core.links import Link, Links
from arriero.core.making import context_for, grant_of
from arriero.core.records import ItemRecord, TaskRecord
from arriero.core.returns import IN_DOUBT
from arriero.types.link import Grant, Granted
from arriero.types.tasks import TaskStatus

#: An input of more characters is left to a claim, whose answer has room for it.
LARGEST = 64 * 1024


class Offers:
    """Decides, right before a commit, whether a worker gets the new item with it; if not, the item becomes ready.

    Only an item that nothing older waits before is given so, and only to a worker that says that it takes what it has
    not asked for. The worker may be full or leaving by the time that it hears of it: then it gives the item back.
    """

    def __init__(self, kernel: Kernel, links: Links) -> None:
        self._kernel = kernel
        self._links = links
        kernel.on_order = self.order

    async def order(self, change: Change, task: TaskRecord, item: ItemRecord) -> None:
        """Put an item into the change that may run as soon as it is stored."""
        if not _is_light(task, item) or self._taker(item.service) is None:
            change.make_ready(item)
            change.put(names.ITEMS, item.id, item, expect=0)
            return
        kept = await context_for(self._kernel, item)
        change.before.append(lambda: self._settle(change, task, item, kept))

    def _taker(self, service: str) -> Link | None:
        """An idle worker, when there is nothing else for it."""
        return self._links.taker(service) if self._kernel.ready.is_clear(service) else None

    def _settle(self, change: Change, task: TaskRecord, item: ItemRecord, context: str | None) -> None:
        link = self._taker(item.service)
        if link is None:
            change.make_ready(item)
        else:
            text = item.input if item.input is not None else task.input
            self._give(change, link, item, grant_of(task, item, text, context, self._kernel.clock()))
        change.put(names.ITEMS, item.id, item, expect=0)

    def _give(self, change: Change, link: Link, item: ItemRecord, grant: Grant) -> None:
        link.free -= 1
        item.status = TaskStatus.RUNNING
        item.epoch, item.token, item.worker_id = grant.epoch, grant.token, link.worker_id
        item.started_at = item.claimed_at = self._kernel.clock()
        change.put(names.held(link.worker_id), item.id, None)
        change.after.append(lambda: self._hand_over(link, grant))
        change.failed.append(lambda error: self._take_back(link, grant, error))

    def _hand_over(self, link: Link, grant: Grant) -> None:
        """A link that was replaced meanwhile does not get it."""
        if self._links.is_current(link):
            self._links.take(link, grant.item_id, grant.token)
            link.push(Granted(grants=[grant]))
        else:
            self._links.returns.soon(grant.item_id, grant.token)

    def _take_back(self, link: Link, grant: Grant, error: BaseException) -> None:
        """The commit failed, and may be done nevertheless."""
        link.free += 1
        if not isinstance(error, REFUSED):
            self._links.returns.soon(grant.item_id, grant.token, IN_DOUBT)


def _is_light(task: TaskRecord, item: ItemRecord) -> bool:
    """Whether the input is at hand, and small, and nothing else is to be read."""
    if item.journaled:
        return False
    if item.input is not None:
        return len(item.input) <= LARGEST
    return not item.apart and not task.apart and len(task.input) <= LARGEST
