"""One change at a time for each session.

The store would refuse the second of two concurrent changes of a session, and it would be decided again. Taking turns
within a process saves that work and keeps the order in which tasks were submitted. It is an economy, not a guarantee:
between processes the store decides.
"""

from __future__ import annotations

import asyncio


class Turns:
    """A lock for each key that exists only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def take(self, key: str) -> Turn:
        """The key's turn, for as long as the block that it is entered for."""
        return Turn(self._places, key)


class _Place:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Turn:
    """An asynchronous context manager; a class, for every task takes several."""

    __slots__ = ("_key", "_place", "_places")

    def __init__(self, places: dict[str, _Place], key: str) -> None:
        self._places = places
        self._key = key
        self._place = places.get(key) or _Place()

    async def __aenter__(self) -> None:
        self._place = self._places.setdefault(self._key, self._place)
        self._place.users += 1
        try:
            await self._place.lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._place.lock.release()
        self._leave()

    def _leave(self) -> None:
        self._place.users -= 1
        if not self._place.users:
            del self._places[self._key]
