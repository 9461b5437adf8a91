"""How many items of each service are queued, and whether there is room for more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import msgspec

from arriero.core import names, records
from arriero.state_stores.base import Document, StateStore
from arriero.types.errors import QueueFull, StoreDamaged

PAGE = 1000
#: Seconds for which the refusals of a service are looked at together, to tell how fast its queue moves.
SPAN = 10.0
#: The shortest and the longest time after which somebody who was refused is asked to come again, in seconds.
SOONEST, LATEST = 1.0, 30.0
#: How errors name the setting.
MAX_QUEUE = "max_queue of the service or of ControlPlaneConfig, CONTROL_PLANE_MAX_QUEUE"


@dataclass(slots=True)
class _Refusals:
    """Those since a moment, with how many items had left the queue by then."""

    since: float
    left: int
    count: int = 0


class Backlog:
    """Counts queued items in memory: those that are ready, that stand behind another, and that await a retry.

    Every commit tells what it changed, and a start counts anew. Nothing is read on the way of a task.
    """

    def __init__(self, store: StateStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._queued: dict[str, int] = {}
        self._coming: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._refusals: dict[str, _Refusals] = {}

    def count(self, service: str) -> int:
        """How many items of the service are queued."""
        return max(0, self._queued.get(service, 0))

    def add(self, changes: dict[str, int]) -> None:
        """A commit has changed the numbers by so many."""
        for service, by in changes.items():
            self._queued[service] = self._queued.get(service, 0) + by
            if by < 0:
                self._left[service] = self._left.get(service, 0) - by

    def reserve(self, wanted: dict[str, int], most: Callable[[str], int | None]) -> None:
        """Keep places for what is about to be committed; :class:`QueueFull` when a service has none left.

        Whoever has them gives them back by :meth:`release` once it is committed, and then counts, or is not.
        """
        for service, more in wanted.items():
            limit = most(service)
            if more > 0 and limit is not None:
                taken = self.count(service) + self._coming.get(service, 0)
                if taken + more > limit:
                    raise self._full(service, taken, limit)
        for service, more in wanted.items():
            self._coming[service] = self._coming.get(service, 0) + more

    def release(self, wanted: dict[str, int]) -> None:
        """What was about to be committed is, or was given up."""
        for service, more in wanted.items():
            self._coming[service] -= more
            if not self._coming[service]:
                del self._coming[service]

    async def recover(self, services: Iterable[str]) -> None:
        """Count what an earlier run left."""
        self._queued = {}
        for service in services:
            async for page in self._pages(names.ready(service)):
                self.add({service: len(page)})
        async for page in self._pages(names.LANES):
            for document in page:
                self._add_lane(document)
        async for page in self._pages(names.TIMERS):
            for document in page:
                if not document.damaged:
                    await self._add_retry(document.key)

    def _add_lane(self, document: Document) -> None:
        try:
            waiting = records.LANE.decode(document.value).waiting
        except msgspec.DecodeError:
            return  # told when somebody enters it
        self.add({document.key.split("/", 1)[1]: waiting})

    async def _add_retry(self, key: str) -> None:
        _, kind, item_id = key.split("/", 2)
        try:
            document = await self._store.get(names.ITEMS, item_id) if kind == "retry" else None
            if document is None:
                return
            self.add({records.ITEM.decode(document.value).service: 1})
        except (msgspec.DecodeError, StoreDamaged):
            return  # told when its time has come

    async def _pages(self, collection: str) -> AsyncIterator[list[Document]]:
        after = ""
        while page := await self._store.scan(collection, after, PAGE):
            yield page
            after = page[-1].key

    def _full(self, service: str, queued: int, limit: int) -> QueueFull:
        return QueueFull(
            f"{queued} items are queued for service {service!r}; the limit is {limit} (setting {MAX_QUEUE})",
            retry_after=self._retry_after(service),
            service=service,
            queued=queued,
            limit=limit,
        )

    def _retry_after(self, service: str) -> float:
        """When there may be room for all who were refused lately, at the pace at which the queue has moved since."""
        now, left = self._clock(), self._left.get(service, 0)
        refusals = self._refusals.get(service)
        if refusals is None or not 0 <= now - refusals.since <= SPAN:
            refusals = self._refusals[service] = _Refusals(now, left)
        refusals.count += 1
        moved = left - refusals.left
        if not moved:
            return SOONEST
        return min(LATEST, max(SOONEST, refusals.count * (now - refusals.since) / moved))
