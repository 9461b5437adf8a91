"""What was used last, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping, without None, that forgets what was not used for longest, by number and by size together."""

    __slots__ = ("_entries", "_largest", "_most", "_size", "_size_of")

    def __init__(self, most: int, largest: int, size_of: Callable[[V], int]) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._most = most
        self._largest = largest
        self._size_of = size_of
        self._size = 0

    def find(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def keep(self, key: K, value: V) -> None:
        """Remember it, unless it alone would fill an eighth of the room."""
        old = self._entries.pop(key, None)
        if old is not None:
            self._size -= self._size_of(old)
        size = self._size_of(value)
        if size * 8 > self._largest:
            return
        self._entries[key] = value
        self._size += size
        while len(self._entries) > self._most or self._size > self._largest:
            self._size -= self._size_of(self._entries.popitem(last=False)[1])

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
