"""Which items may be claimed now: a window on the store's ready index, oldest first.

The window only saves reads. Whether an item is really free is decided by the commit that claims it.
"""

from __future__ import annotations

import heapq

from arriero.core import names
from arriero.state_stores.base import StateStore

WINDOW = 1000
#: How many dropped keys a heap may hold at least.
SLACK = 64


class _Window:
    """``known`` are the keys that count; the heap may hold others, which were dropped."""

    __slots__ = ("keys", "known", "more")

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.known: set[str] = set()
        self.more = True

    def add(self, key: str) -> None:
        if key not in self.known:
            self.known.add(key)
            heapq.heappush(self.keys, key)

    def drop(self, key: str) -> None:
        self.known.discard(key)
        if len(self.keys) > 2 * len(self.known) + SLACK:
            self.keys = sorted(self.known)

    def oldest(self) -> str | None:
        while self.keys and self.keys[0] not in self.known:
            heapq.heappop(self.keys)
        return self.keys[0] if self.keys else None

    def pop(self) -> str:
        """The oldest key, of which there is one."""
        while (key := heapq.heappop(self.keys)) not in self.known:
            pass
        self.known.remove(key)
        return key


class ReadyIndex:
    """The keys of each service's ready items, as far as they were read."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._windows: dict[str, _Window] = {}

    def add(self, service: str, key: str) -> None:
        """An item has become ready; beyond the window it is left to be read later."""
        window = self._windows.setdefault(service, _Window())
        if len(window.known) >= WINDOW:
            window.more = True
        else:
            window.add(key)

    def drop(self, service: str, key: str) -> None:
        """An item is ready no more."""
        window = self._windows.get(service)
        if window is not None:
            window.drop(key)

    async def take(self, service: str, most: int) -> list[str]:
        """At most so many keys, the oldest first; who takes one claims it or gives it back by :meth:`add`."""
        window = self._windows.setdefault(service, _Window())
        if not window.known and window.more:
            await self._read(service, window)
        return [window.pop() for _ in range(min(most, len(window.known)))]

    def oldest(self, service: str) -> str | None:
        """The oldest key of the window."""
        window = self._windows.get(service)
        return window.oldest() if window else None

    def is_clear(self, service: str) -> bool:
        """Whether it is known that nothing is ready."""
        window = self._windows.get(service)
        return window is not None and not window.known and not window.more

    def count(self, service: str) -> int:
        window = self._windows.get(service)
        return len(window.known) if window else 0

    async def refresh(self, service: str) -> int:
        """Read the window anew; gives how many keys it holds."""
        window = self._windows.setdefault(service, _Window())
        await self._read(service, window)
        return len(window.known)

    async def _read(self, service: str, window: _Window) -> None:
        window.more = False
        documents = await self._store.scan(names.ready(service), limit=WINDOW)
        for document in documents:
            window.add(document.key)
        window.more = window.more or self._store.shared or len(documents) == WINDOW
