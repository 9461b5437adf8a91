"""Who waits for the end of which item, within this process."""

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
