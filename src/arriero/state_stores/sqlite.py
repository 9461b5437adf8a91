"""The store in a SQLite file, owned by one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from arriero.state_stores.base import Committed, Document, Entry, Head, Op, StateStore
from arriero.state_stores.database import Database
from arriero.state_stores.limits import bounded, check_name
from arriero.state_stores.owner import Owner, Read, Write, Written, settle
from arriero.state_stores.plans import Group, Place, plan_of
from arriero.state_stores.recent import Recent
from arriero.state_stores.stats import StoreStats
from arriero.state_stores.watchers import Watchers
from arriero.types.errors import Conflict, StoreUnavailable

T = TypeVar("T")

#: What nobody will read: a document that was removed, and one whose key says all, which is listed and not read.
NEVER_READ = (None, b"null")

#: A value and its version; (None, 0) where there is no document.
Kept = tuple[bytes | None, int]


class SqliteStore(StateStore):
    """Documents and logs in one file; commits that wait at the same time are written together.

    What was used last is answered from memory: at most ``cached_documents`` values of ``cached_bytes`` together. The
    cache belongs to the loop, where the owner's answers to reads and the changes of its groups arrive in the order in
    which its thread made them. So what was read is kept before any later change of it is, and never after; and a
    change is kept before its committer is told.
    """

    schemes: ClassVar[tuple[str, ...]] = ("sqlite",)

    def __init__(self, path: str | Path, *, cached_documents: int = 4096, cached_bytes: int = 4 * 1024 * 1024) -> None:
        self.path = Path(path).expanduser().resolve()
        self.stats = StoreStats()
        self._documents: Recent[Place, Kept] = Recent(cached_documents, cached_bytes, lambda kept: len(kept[0] or b""))
        self._heads: Recent[str, Head] = Recent(cached_documents, cached_documents, lambda _: 0)
        self._watchers = Watchers()
        self._database = Database(self.path)
        self._owner: Owner | None = None
        self._is_open = False
        self._was_closed = False

    @property
    def label(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def damages(self) -> int:
        return self._database.damages

    async def open(self) -> Self:
        if self._was_closed:
            raise self._unavailable()
        if self._owner is None:
            self._owner = Owner(self._database, self._settle)
            self._owner.ended.add_done_callback(lambda _: self._watchers.close())
            self._owner.start()
        owner = self._owner
        try:
            await asyncio.shield(owner.opened)
        except BaseException:
            self._owner = None
            owner.stop()
            await asyncio.shield(owner.ended)
            raise
        if self._owner is not owner or self._was_closed:
            raise self._unavailable()
        self._is_open = True
        return self

    async def get(self, collection: str, key: str) -> Document | None:
        if not self._is_open:
            raise self._unavailable()
        place = (collection, key)
        kept = self._documents.find(place)
        if kept is None:
            check_name("collection", collection)
            check_name("key", key)
            kept = await self._read(
                lambda database: database.get(collection, key), lambda kept: self._documents.keep(place, kept)
            )
        value, version = kept
        return None if value is None else Document(key, value, version)

    async def scan(
        self, collection: str, after: str = "", limit: int = 100, *, backwards: bool = False
    ) -> list[Document]:
        check_name("collection", collection)
        if after:
            check_name("key", after)
        return await self._read(lambda database: database.scan(collection, after, bounded(limit), backwards=backwards))

    async def read_log(self, log: str, after: int = 0, limit: int = 100) -> list[Entry]:
        check_name("log", log)
        return await self._read(lambda database: database.read_log(log, bounded(after), bounded(limit)))

    async def head(self, log: str) -> Head:
        if not self._is_open:
            raise self._unavailable()
        head = self._heads.find(log)
        if head is None:
            check_name("log", log)
            head = await self._read(lambda database: database.head(log), lambda head: self._heads.keep(log, head))
        return head

    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        plan = plan_of(ops)
        owner = self._opened()
        if not durable and (outcome := owner.write_now(plan)) is not None:
            if isinstance(outcome, Committed):
                return outcome
            raise outcome
        answer: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        owner.submit(Write(plan, durable, answer))
        return await answer

    def watch(self, log: str) -> AsyncGenerator[Head, None]:
        return self._watchers.watch(log, self.head)

    async def aclose(self) -> None:
        self._was_closed = True
        self._is_open = False
        if self._owner is not None:
            self._owner.stop()
            await asyncio.shield(self._owner.ended)

    async def _read(self, work: Callable[[Database], T], keep: Callable[[T], None] | None = None) -> T:
        owner = self._opened()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        owner.submit(Read(work, answer, keep))
        self.stats.reads += 1
        return await answer

    def _settle(self, written: Written) -> None:
        """Learn what a group has changed, then tell those who wait."""
        group = written.group
        for place, kept in group.documents.items():
            if place in self._documents or kept[0] not in NEVER_READ:
                self._documents.keep(place, kept)
        for log, change in group.logs.items():
            self._heads.keep(log, change.head)
            self._watchers.tell(log, change.head)
        for answer, outcome in written.answers:
            if isinstance(outcome, Committed):
                self._learn_untouched(group, outcome.heads)
            if answer is not None:
                settle(answer, outcome)
        self._count(written)

    def _learn_untouched(self, group: Group, heads: dict[str, Head]) -> None:
        """A commit that names a log without adding to it tells how far that has come."""
        for log, head in heads.items():
            if log not in group.logs:
                self._heads.keep(log, head)

    def _count(self, written: Written) -> None:
        conflicts = sum([isinstance(outcome, Conflict) for _, outcome in written.answers])
        self.stats.conflicts += conflicts
        self.stats.commits += len(written.answers) - conflicts
        if not written.group.is_empty:
            self.stats.groups += 1
            self.stats.durable_groups += written.durable

    def _opened(self) -> Owner:
        if self._owner is None or not self._is_open:
            raise self._unavailable()
        return self._owner

    def _unavailable(self) -> StoreUnavailable:
        state = "was closed" if self._was_closed else "is not open yet"
        return StoreUnavailable(f"the state store {self.path} {state}")
