"""The port of the state store: versioned documents and append-only logs, changed by one atomic commit.

Values are JSON documents as bytes; a store never looks inside them. Keys, collections and logs are any text without a
NUL, of 1 to 512 bytes in UTF-8; keys sort by their bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import ClassVar, Self

import msgspec


class Document(msgspec.Struct, frozen=True):
    """A stored value. ``version`` grows with every commit and is never reused for a key, not even after a delete.

    Only a scan gives one that is ``damaged``, so that it hides none of the others: with an empty value, and with a key
    that may be damaged as well.
    """

    key: str
    value: bytes
    version: int
    damaged: bool = False


class Entry(msgspec.Struct, frozen=True):
    """One value of a log; ``seq`` counts from 1 without gaps, in the order of commit."""

    seq: int
    value: bytes


class Head(msgspec.Struct, frozen=True):
    """How far a log has come: the ``seq`` of its last entry (0 for none), and whether it has ended."""

    seq: int = 0
    ended: bool = False


class Put(msgspec.Struct, frozen=True):
    """Write a document. ``expect``: None for any version, 0 for "must not exist", else the version it must have."""

    collection: str
    key: str
    value: bytes
    expect: int | None = None


class Delete(msgspec.Struct, frozen=True):
    """Remove a document; removing what is not there is no error unless ``expect`` says so."""

    collection: str
    key: str
    expect: int | None = None


class Expect(msgspec.Struct, frozen=True):
    """Change nothing, but fail the commit unless the document has this version (0: does not exist)."""

    collection: str
    key: str
    version: int


class Append(msgspec.Struct, frozen=True):
    """Add values to a log, in order; ``end`` ends it after them. An ended log refuses every later append."""

    log: str
    values: tuple[bytes, ...]
    end: bool = False


class Drop(msgspec.Struct, frozen=True):
    """Remove a log as a whole; it may be started again from seq 1."""

    log: str


Op = Put | Delete | Expect | Append | Drop


class Committed(msgspec.Struct, frozen=True):
    """What a commit gave: the version of everything that it put, and the new heads of the logs it touched."""

    version: int
    heads: dict[str, Head] = {}


class StateStore(ABC):
    """A store of documents and logs.

    Guarantees of every implementation, each with a case in ``arriero.testing``:

    * a commit takes effect as a whole or not at all; a conflict leaves every other commit standing;
    * the order of ``seq`` in a log is the order of commit, and a reader never sees a gap;
    * once ``commit`` returns, every later read sees it, and with ``durable=True`` it survives a power cut;
    * cancelling a caller of ``commit`` leaves the commit done or not done, never half.

    Errors: ``StateConflict`` (an expectation failed), ``LogEnded``, ``InvalidInput`` (a name or value that cannot be
    stored), ``StoreUnavailable``, ``StoreDamaged``.
    """

    #: The schemes under which the store is opened.
    schemes: ClassVar[tuple[str, ...]] = ()
    #: Whether several processes may use it at once.
    shared: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """How a log names the store: never with credentials."""
        return type(self).__name__

    @property
    def damages(self) -> int:
        """How many damaged records it has met since it was opened."""
        return 0

    @abstractmethod
    async def open(self) -> Self:
        """Acquire what the store needs; entering it as a context manager does the same."""

    @abstractmethod
    async def get(self, collection: str, key: str) -> Document | None:
        """The document, or None."""

    @abstractmethod
    async def scan(
        self, collection: str, after: str = "", limit: int = 100, *, backwards: bool = False
    ) -> list[Document]:
        """At most ``limit`` documents with keys greater than ``after``, in the order of their keys.

        ``backwards``: those with keys less than ``after`` (the last ones, where it is empty), the greatest first.
        """

    @abstractmethod
    async def read_log(self, log: str, after: int = 0, limit: int = 100) -> list[Entry]:
        """At most ``limit`` entries with a ``seq`` greater than ``after``, in order."""

    @abstractmethod
    async def head(self, log: str) -> Head:
        """How far the log has come."""

    @abstractmethod
    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        """Make all of the changes or none.

        All that the ops expect is compared with what stood before the commit; then they are done in their order.
        ``durable=False`` may lose the commit in a power cut (never in a crash of the process); a later durable
        commit makes it durable too, so nothing is lost out of order.
        """

    @abstractmethod
    def watch(self, log: str) -> AsyncGenerator[Head, None]:
        """The log's head now, and again whenever it has changed since it was last given; ends after an ended head.

        Changes in between are merged: a reader reads the log up to the head that it was given. A log that was dropped
        is at 0 again. It is an async generator; closing it ends the watch.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what was accepted, then let go. A second call does nothing."""

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
