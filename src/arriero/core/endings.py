"""Who waits for the end of which item, and whose children have all ended, within this process."""

from __future__ import annotations

import asyncio


class Endings:
    """Futures that are done when their item ends."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def of(self, item_id: str) -> asyncio.Future[None]:
        """Is done when the item ends; to be given back by :meth:`leave`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(item_id, set()).add(future)
        return future

    def leave(self, item_id: str, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(item_id)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[item_id]

    def tell_all(self) -> None:
        """Each item may have ended: whoever waits looks again."""
        for item_id in list(self._waiting):
            self.tell(item_id)

    def tell(self, item_id: str) -> None:
        """The item has ended."""
        for future in self._waiting.get(item_id, ()):
            if not future.done():
                future.set_result(None)


class Offspring:
    """The open children of each item, as far as this process has seen all of them since the item's first call.

    A child is noted before the commit that starts it, and let go after the one that ends it: what is missing here has
    ended for certain.
    """

    def __init__(self) -> None:
        self._open: dict[str, set[str]] = {}

    def born(self, parent_id: str, child_id: str, *, first: bool) -> None:
        """The child is about to be started; ``first`` says that its parent had none before."""
        if first:
            self._open.setdefault(parent_id, set()).add(child_id)
        elif (children := self._open.get(parent_id)) is not None:
            children.add(child_id)

    def ended(self, parent_id: str, child_id: str) -> None:
        if (children := self._open.get(parent_id)) is not None:
            children.discard(child_id)

    def have_all_ended(self, parent_id: str) -> bool:
        """Whether it is known that none is open."""
        children = self._open.get(parent_id)
        return children is not None and not children

    def forget(self, parent_id: str) -> None:
        """The parent itself has ended."""
        self._open.pop(parent_id, None)
