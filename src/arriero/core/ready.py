"""Which items may be claimed now: a window on the store's ready index, oldest first.

The window only saves reads. Whether an item is really free is decided by the commit that claims it.
"""

from __future__ import annotations

import heapq

from arriero.core import names
from arriero.state_stores.base import StateStore

WINDOW = 1000


class _Window:
    __slots__ = ("keys", "known", "more")

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.known: set[str] = set()
        self.more = True


class ReadyIndex:
    """The keys of each service's ready items, as far as they were read."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._windows: dict[str, _Window] = {}

    def add(self, service: str, key: str) -> None:
        """An item has become ready; beyond the window it is left to be read later."""
        window = self._windows.setdefault(service, _Window())
        if len(window.keys) >= WINDOW:
            window.more = True
        elif key not in window.known:
            window.known.add(key)
            heapq.heappush(window.keys, key)

    async def take(self, service: str, most: int) -> list[str]:
        """At most so many keys, the oldest first; who takes one claims it or gives it back by :meth:`add`."""
        window = self._windows.setdefault(service, _Window())
        if not window.keys and window.more:
            await self._read(service, window)
        taken = [heapq.heappop(window.keys) for _ in range(min(most, len(window.keys)))]
        window.known.difference_update(taken)
        return taken

    def oldest(self, service: str) -> str | None:
        """The oldest key of the window."""
        window = self._windows.get(service)
        return window.keys[0] if window and window.keys else None

    def count(self, service: str) -> int:
        window = self._windows.get(service)
        return len(window.keys) if window else 0

    async def refresh(self, service: str) -> int:
        """Read the window anew; gives how many keys it holds."""
        window = self._windows.setdefault(service, _Window())
        await self._read(service, window)
        return len(window.keys)

    async def _read(self, service: str, window: _Window) -> None:
        window.more = False
        documents = await self._store.scan(names.ready(service), limit=WINDOW)
        for document in documents:
            if document.key not in window.known:
                window.known.add(document.key)
                heapq.heappush(window.keys, document.key)
        window.more = window.more or self._store.shared or len(documents) == WINDOW


def item_of(key: str) -> str:
    """The item that a ready key names."""
    return key.split("/", 1)[1]
