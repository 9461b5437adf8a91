"""What was delivered and not yet taken, for the consumers that iterate over it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """An asynchronous iterator over what is put in, until it is closed. It belongs to one event loop."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add one item; a closed inbox drops it."""
        if not self._closed:
            self._items.append(item)
            self._changed.set()

    def clear(self) -> None:
        """Forget what was not taken."""
        self._items.clear()

    def close(self, error: BaseException | None = None) -> None:
        """Forget what was not taken, and end the iteration; with an error, raise that once."""
        self._closed = True
        self._error = error
        self.clear()
        self._changed.set()

    def __len__(self) -> int:
        return len(self._items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()
