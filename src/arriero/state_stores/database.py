"""The file of the SQLite store: opened, read, written, its errors told as the store's. One thread at a time uses it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from arriero.state_stores import statements
from arriero.state_stores.base import Committed, Document, Entry, Head
from arriero.state_stores.ownership import Ownership
from arriero.state_stores.plans import Group, Place, Plan
from arriero.types.errors import ArrieroError, ConfigurationError, Conflict, StoreDamaged, StoreUnavailable

T = TypeVar("T")

SCHEMA = 1
#: Marks a SQLite file as ours: "Arri".
APPLICATION = 0x41727269
#: Versions are reserved this many at a time, so that those of a lost process are never given again.
RESERVED = 1 << 20
#: How long another program may hold the file, in seconds.
BUSY = 5.0
#: ``temp_store``: a statement of many rows notes what it changes, in case it fails half-way; in memory, not in a file.
#: How many pages of log are brought into the main file together.
CHECKPOINT = 4000
#: Bytes of so long a log: a head, then each page behind a head of its own.
LOG = 32 + CHECKPOINT * (24 + 4096)
PRAGMAS = (
    "synchronous = FULL",
    "cache_size = -4096",
    f"wal_autocheckpoint = {CHECKPOINT}",
    "temp_store = MEMORY",
    "secure_delete = OFF",
)
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Database:
    """One open file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ownership = Ownership(path)
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._reserved = 0
        self._syncs = True
        self._patient = True
        self._behind = False

    def guarded(self, work: Callable[[], T]) -> T:
        """Do it, with SQLite's errors told as the store's."""
        try:
            return work()
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except OSError as error:
            raise StoreUnavailable(f"the state store {self.path} cannot be used: {error}") from error

    def open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ownership.acquire()
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY, isolation_level=None, cached_statements=128, check_same_thread=False
            )
            self._check_file()
            self._set_up()
            self._lengthen_log()
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        """Bring everything into the main file. What cannot be brought there now waits for the next open."""
        with suppress(sqlite3.Error):
            self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._let_go()

    def get(self, collection: str, key: str) -> tuple[bytes | None, int]:
        """Value and version; (None, 0) if it does not exist."""
        row = self._execute(statements.GET, (collection, key)).fetchone()
        return (statements.intact(row[0], f"document {key!r} in {collection!r}"), row[1]) if row else (None, 0)

    def scan(self, collection: str, after: str, limit: int, *, backwards: bool) -> list[Document]:
        if backwards:
            rows = self._execute(statements.SCAN_BACK, (collection, after or statements.LAST, limit)).fetchall()
        else:
            rows = self._execute(statements.SCAN, (collection, after, limit)).fetchall()
        return [statements.document_of(collection, row) for row in rows]

    def read_log(self, log: str, after: int, limit: int) -> list[Entry]:
        rows = self._execute(statements.READ_LOG, (log, after, limit)).fetchall()
        return [statements.entry_of(log, row) for row in rows]

    def head(self, log: str) -> Head:
        row = self._execute(statements.HEAD, (log,)).fetchone()
        return statements.head_of(row[0] if row else None)

    def commit(
        self, plans: Sequence[Plan], *, durable: bool, at_once: bool = False
    ) -> tuple[Group, list[Committed | Conflict]]:
        """Judge each plan against those before it, and write the good ones in one transaction.

        ``at_once`` waits for nobody who holds the file, and leaves it to others to bring the log into the main file.
        """
        if self._opened.in_transaction:  # an error hit the rollback too
            self._execute("ROLLBACK")
        self._be_patient(not at_once)
        self._synchronize(durable=durable)
        self._execute("BEGIN IMMEDIATE")
        try:
            group = Group(*self._standing(plans))
            answers = [self._judge(group, plan) for plan in plans]
            self._write(group)
            reserved = self._reserve_more()
            if durable and self._behind and group.is_empty:
                self._execute(statements.TOUCH, (self._version,))
            self._execute("COMMIT")
        except BaseException:
            if self._opened.in_transaction:
                self._execute("ROLLBACK")
            raise
        self._reserved = reserved
        self._behind = not durable and (self._behind or not group.is_empty)
        return group, answers

    def _judge(self, group: Group, plan: Plan) -> Committed | Conflict:
        answer = group.add(plan, self._version + 1)
        if isinstance(answer, Committed):
            self._version += 1
        return answer

    def _synchronize(self, *, durable: bool) -> None:
        """Let transactions wait for the disk or not; one that waits brings those before it to the disk as well."""
        if durable is not self._syncs:
            self._execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._syncs = durable

    def _be_patient(self, patient: bool) -> None:
        if patient is not self._patient:
            self._execute(f"PRAGMA busy_timeout = {int(BUSY * 1000) if patient else 0}")
            self._execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT if patient else 0}")
            self._patient = patient

    def _reserve_more(self) -> int:
        if self._version < self._reserved:
            return self._reserved
        reserved = self._version + RESERVED
        self._execute(statements.RESERVE_VERSIONS, (reserved,))
        return reserved

    def _standing(self, plans: Sequence[Plan]) -> tuple[dict[Place, int | None], dict[str, Head]]:
        """The versions of all that the plans expect, and the heads of the logs that they touch."""
        places = list({place for plan in plans for place, _ in plan.expected})
        logs = list({op.log for plan in plans for op in plan.logs})
        versions: dict[Place, int | None] = {}
        heads: dict[str, Head] = {}
        for start in range(0, max(len(places), len(logs)), statements.MOST_ROWS):
            end = start + statements.MOST_ROWS
            some, few = places[start:end], logs[start:end]
            size = statements.size_for(max(len(some), len(few)))
            wanted = [*statements.filled(some, size, 2), *few, *[None] * (size - len(few))]
            row = self._execute(statements.standing(size), wanted).fetchone()
            versions.update(zip(some, row, strict=False))
            heads.update(zip(few, map(statements.head_of, row[size:]), strict=False))
        return versions, heads

    def _write(self, group: Group) -> None:
        documents, logs = group.documents.items(), group.logs.items()
        self._execute_rows(statements.drop, [(log,) for log, change in logs if change.dropped])
        self._execute_rows(statements.delete, [place for place, (value, _) in documents if value is None])
        self._execute_rows(
            statements.put, [(*place, version, value) for place, (value, version) in documents if value is not None]
        )
        self._execute_rows(statements.append, statements.appended(group))

    def _execute_rows(self, sql: Callable[[int], str], rows: Sequence[tuple[Any, ...]]) -> None:
        for start in range(0, len(rows), statements.MOST_ROWS):
            some = rows[start : start + statements.MOST_ROWS]
            size = statements.size_for(len(some))
            self._execute(sql(size), statements.filled(some, size, len(some[0])))

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreUnavailable(f"the state store {self.path} is not open")
        return self._connection

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._opened.execute(sql, values)

    def _number(self, sql: str) -> int:
        return int(self._execute(sql).fetchone()[0])

    def _check_file(self) -> None:
        if self._number("SELECT count(*) FROM sqlite_master") and self._number("PRAGMA application_id") != APPLICATION:
            raise ConfigurationError(
                f"{self.path} is a SQLite database of another program; name another file in state_store_uri"
            )
        schema = self._number("PRAGMA user_version")
        if schema > SCHEMA:
            raise ConfigurationError(
                f"{self.path} was written by a newer version of Arriero (schema {schema}, this one knows {SCHEMA}); "
                "upgrade Arriero, or name another file in state_store_uri"
            )

    def _set_up(self) -> None:
        if self._execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise ConfigurationError(
                f"the file system of {self.path} cannot hold a SQLite store; name another place in state_store_uri"
            )
        for pragma in PRAGMAS:
            self._execute(f"PRAGMA {pragma}")
        self._execute("BEGIN IMMEDIATE")
        if not self._number("PRAGMA user_version"):
            for statement in statements.TABLES:
                self._execute(statement)
            self._execute(f"PRAGMA application_id = {APPLICATION}")
            self._execute(f"PRAGMA user_version = {SCHEMA}")
        self._version = self._number(statements.VERSIONS)
        self._reserved = self._version + RESERVED
        self._execute(statements.RESERVE_VERSIONS, (self._reserved,))
        self._execute("COMMIT")

    def _lengthen_log(self) -> None:
        """Give the log the length at once that it comes to have, filled with zeros, at which a reader of it stops.

        A commit then only changes what is in the file, which the disk takes in two thirds of the time that it needs
        when the file grows as well. PostgreSQL does the same with its log (``wal_init_zero``).
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        with suppress(OSError), log.open("r+b") as file:  # without it all works as well, only slower
            length = file.seek(0, os.SEEK_END)
            file.write(bytes(max(0, LOG - length)))
            file.flush()
            os.fsync(file.fileno())

    def _let_go(self) -> None:
        try:
            if self._connection is not None:
                self._connection.close()
        finally:
            self._connection = None
            self._ownership.release()

    def _explained(self, error: sqlite3.Error) -> ArrieroError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in DAMAGE or "UTF-8" in str(error):
            return StoreDamaged(f"the state store {self.path} is damaged: {error}", path=str(self.path))
        return StoreUnavailable(f"the state store {self.path} cannot be used: {error}", path=str(self.path))
