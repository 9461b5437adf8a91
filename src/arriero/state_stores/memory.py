"""The store that lives as long as its object: for tests, and for work that may be lost."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar, Self

from arriero.state_stores.base import Committed, Document, Entry, Head, Op, StateStore
from arriero.state_stores.limits import bounded, check_name
from arriero.state_stores.plans import NO_HEAD, Group, LogChange, plan_of
from arriero.state_stores.stats import StoreStats
from arriero.state_stores.watchers import Watchers
from arriero.types.errors import Conflict, StoreUnavailable


class _Collection:
    """Documents with their keys in order: text sorts by code point as UTF-8 does by byte."""

    __slots__ = ("documents", "keys")

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.keys: list[str] = []

    def put(self, document: Document) -> None:
        if document.key not in self.documents:
            insort(self.keys, document.key)
        self.documents[document.key] = document

    def delete(self, key: str) -> None:
        if self.documents.pop(key, None) is not None:
            del self.keys[bisect_right(self.keys, key) - 1]

    def page(self, after: str, limit: int, *, backwards: bool) -> list[Document]:
        if backwards:
            end = bisect_left(self.keys, after) if after else len(self.keys)
            return [self.documents[key] for key in reversed(self.keys[max(0, end - limit) : end])]
        start = bisect_right(self.keys, after)
        return [self.documents[key] for key in self.keys[start : start + limit]]


class MemoryStore(StateStore):
    """A store in memory. Each object is a store of its own, and nothing of it is left when it is closed."""

    schemes: ClassVar[tuple[str, ...]] = ("memory",)

    def __init__(self) -> None:
        self.stats = StoreStats()
        self._collections: dict[str, _Collection] = {}
        self._logs: dict[str, list[bytes]] = {}
        self._ended: set[str] = set()
        self._version = 0
        self._watchers = Watchers()
        self._is_open = False
        self._was_closed = False

    @property
    def label(self) -> str:
        return "memory: (lost when it ends)"

    async def open(self) -> Self:
        if self._was_closed:
            raise StoreUnavailable("the state store was closed; make a new one")
        self._is_open = True
        return self

    async def get(self, collection: str, key: str) -> Document | None:
        self._check_open()
        check_name("collection", collection)
        check_name("key", key)
        return self._find(collection, key)

    async def scan(
        self, collection: str, after: str = "", limit: int = 100, *, backwards: bool = False
    ) -> list[Document]:
        self._check_open()
        check_name("collection", collection)
        if after:
            check_name("key", after)
        kept = self._collections.get(collection)
        return kept.page(after, bounded(limit), backwards=backwards) if kept else []

    async def read_log(self, log: str, after: int = 0, limit: int = 100) -> list[Entry]:
        self._check_open()
        check_name("log", log)
        start = bounded(after)
        page = self._logs.get(log, [])[start : start + bounded(limit)]
        return [Entry(seq, value) for seq, value in enumerate(page, start + 1)]

    async def head(self, log: str) -> Head:
        self._check_open()
        check_name("log", log)
        return self._head(log)

    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        self._check_open()
        plan = plan_of(ops)
        group = Group(
            {place: found.version if (found := self._find(*place)) else None for place, _ in plan.expected},
            {op.log: self._head(op.log) for op in plan.logs},
        )
        answer = group.add(plan, self._version + 1)
        if isinstance(answer, Conflict):
            self.stats.conflicts += 1
            raise answer
        self._apply(group, answer.version)
        return answer

    def watch(self, log: str) -> AsyncGenerator[Head, None]:
        return self._watchers.watch(log, self.head)

    async def aclose(self) -> None:
        self._was_closed = True
        self._is_open = False
        self._watchers.close()
        self._collections.clear()
        self._logs.clear()
        self._ended.clear()

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable(f"the state store {'was closed' if self._was_closed else 'is not open yet'}")

    def _find(self, collection: str, key: str) -> Document | None:
        kept = self._collections.get(collection)
        return kept.documents.get(key) if kept else None

    def _head(self, log: str) -> Head:
        values = self._logs.get(log)
        ended = log in self._ended
        return Head(len(values or ()), ended) if values or ended else NO_HEAD

    def _apply(self, group: Group, version: int) -> None:
        self._version = version
        self.stats.commits += 1
        self.stats.groups += 1
        for (collection, key), (value, _) in group.documents.items():
            if value is not None:
                self._collections.setdefault(collection, _Collection()).put(Document(key, value, version))
            elif kept := self._collections.get(collection):
                kept.delete(key)
                if not kept.keys:
                    del self._collections[collection]
        for log, change in group.logs.items():
            self._change(log, change)
            self._watchers.tell(log, change.head)

    def _change(self, log: str, change: LogChange) -> None:
        if change.dropped:
            self._logs.pop(log, None)
            self._ended.discard(log)
        if change.values:
            self._logs.setdefault(log, []).extend(change.values)
        if change.head.ended:
            self._ended.add(log)
