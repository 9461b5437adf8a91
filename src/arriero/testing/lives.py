"""A store as one life of a control plane sees it: what it keeps goes on when that life has ended, in mid-work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import ClassVar, Self

from arriero.state_stores.base import Committed, Document, Entry, Head, Op, StateStore

#: Done at each commit, with what it changes.
AtCommit = Callable[[Sequence[Op]], Awaitable[None]]
#: Done at each look into the store.
AtRead = Callable[[], Awaitable[None]]


async def nothing(_: Sequence[Op]) -> None:
    """What is done at a commit, unless somebody wants something."""


async def no_time() -> None:
    """How long a look into the store takes, unless somebody wants it otherwise."""


class Life(StateStore):
    """Passes everything on to ``store``, until its :meth:`end`.

    ``before`` and ``after`` are awaited around each commit, ``reading`` before each look; what they raise, the caller
    gets. Whoever uses it after its end is cancelled there and then, as if the process were gone.
    """

    schemes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._ended = False
        self.before: AtCommit = nothing
        self.after: AtCommit = nothing
        self.reading: AtRead = no_time

    @property
    def label(self) -> str:
        return self._store.label

    @property
    def damages(self) -> int:
        return self._store.damages

    def end(self) -> None:
        """Nothing that is asked of it from now on is done or answered."""
        self._ended = True

    async def open(self) -> Self:
        return self

    async def get(self, collection: str, key: str) -> Document | None:
        await self._look()
        return await self._store.get(collection, key)

    async def scan(
        self, collection: str, after: str = "", limit: int = 100, *, backwards: bool = False
    ) -> list[Document]:
        await self._look()
        return await self._store.scan(collection, after, limit, backwards=backwards)

    async def read_log(self, log: str, after: int = 0, limit: int = 100) -> list[Entry]:
        await self._look()
        return await self._store.read_log(log, after, limit)

    async def head(self, log: str) -> Head:
        await self._look()
        return await self._store.head(log)

    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        self._check()
        await self.before(ops)
        self._check()
        committed = await self._store.commit(ops, durable=durable)
        await self.after(ops)
        self._check()
        return committed

    def watch(self, log: str) -> AsyncGenerator[Head, None]:
        return self._store.watch(log)

    async def aclose(self) -> None:
        """The store itself is somebody else's."""

    async def _look(self) -> None:
        self._check()
        await self.reading()
        self._check()

    def _check(self) -> None:
        if self._ended:
            raise asyncio.CancelledError("the process that used this store is gone")
