"""Commits of which nobody knows whether they took effect: the store is looked at anew, as after a start."""

from __future__ import annotations

from arriero.core import names, records
from arriero.core.inbox import Inbox
from arriero.core.kernel import Kernel
from arriero.core.links import Link, Links
from arriero.types.link import Stop

#: Seconds after a commit failed until the store is looked at; what is being tried again has ended by then.
SOON = 1.0


class Doubts:
    """Holds what this process remembers against the store, once a commit failed that may be done nevertheless.

    What a worker was told is known from its link, and is right if the store says the same of the item. The kernel's
    ``on_stock`` reads what else is remembered.
    """

    def __init__(self, kernel: Kernel, links: Links, inbox: Inbox) -> None:
        self._kernel = kernel
        self._links = links
        self._inbox = inbox
        kernel.on_doubt = self.arise

    def arise(self) -> None:
        """A commit failed, and may be done."""
        for link in self._links.all():
            link.numbers.clear()
            link.entries.clear()
        self._kernel.agenda.after(SOON, "doubt", "", self._settle)

    async def _settle(self) -> None:
        await self._kernel.on_stock()
        self._kernel.endings.tell_all()
        for link in self._links.all():
            for item_id, token in list(link.held.items()):
                await self._compare(link, item_id, token)

    async def _compare(self, link: Link, item_id: str, token: str) -> None:
        """An item that is no longer the worker's is taken from it; to others, what was sent is given again."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if link.held.get(item_id) != token:
            return
        if item is None or item.record.ended or item.record.token != token:
            self._links.let_go(link, item_id, token)
            link.push(Stop(item_id=item_id, token=token, reason="fenced"))
        elif item.record.inbox:
            await self._inbox.redeliver(link, item_id)
