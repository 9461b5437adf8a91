"""Those who wait for logs to change, woken by the commits of their own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from arriero.state_stores.base import Head
from arriero.types.errors import StoreUnavailable


class _Watcher:
    __slots__ = ("closed", "news", "waiter")

    def __init__(self) -> None:
        self.news: Head | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.closed = False

    def tell(self, news: Head) -> None:
        """What was not taken yet is replaced: changes in between are merged."""
        self.news = news
        self.wake()

    def close(self) -> None:
        self.closed = True
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def take(self) -> Head | None:
        news, self.news = self.news, None
        return news

    async def next(self) -> Head:
        while True:
            news = self.take()
            if news is not None:
                return news
            if self.closed:
                raise StoreUnavailable("the state store was closed while its log was watched")
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter


class Watchers:
    """The watchers of every log. A log that nobody watches costs nothing."""

    def __init__(self) -> None:
        self._by_log: dict[str, set[_Watcher]] = {}

    def tell(self, log: str, head: Head) -> None:
        """The log has come this far. Calls follow the order of commits."""
        for watcher in self._by_log.get(log, ()):
            watcher.tell(head)

    def close(self) -> None:
        """No news will come any more: who waits for some is told :class:`StoreUnavailable`."""
        for watchers in self._by_log.values():
            for watcher in watchers:
                watcher.close()

    async def watch(self, log: str, read_head: Callable[[str], Awaitable[Head]]) -> AsyncGenerator[Head, None]:
        """The head that ``read_head`` gives, then each newer one.

        The watcher is known before the head is read, so no change falls between the two; news that came by the time
        of the answer is at least as new as the answer, because answers and news come in the order of commits.
        """
        watcher = self._add(log)
        try:
            head = await read_head(log)
            head = watcher.take() or head
            yield head
            while not head.ended:
                head = await watcher.next()
                yield head
        finally:
            self._remove(log, watcher)

    def __len__(self) -> int:
        return sum(map(len, self._by_log.values()))

    def _add(self, log: str) -> _Watcher:
        watcher = _Watcher()
        self._by_log.setdefault(log, set()).add(watcher)
        return watcher

    def _remove(self, log: str, watcher: _Watcher) -> None:
        watchers = self._by_log[log]
        watchers.discard(watcher)
        if not watchers:
            del self._by_log[log]
