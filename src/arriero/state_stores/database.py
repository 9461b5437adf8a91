"""The file of the SQLite store: opened, read, written, its errors told as the store's. One thread at a time uses it."""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from arriero.state_stores import statements
from arriero.state_stores.ahead import unread_commits
from arriero.state_stores.base import Committed, Document, Entry, Head
from arriero.state_stores.ownership import Ownership
from arriero.state_stores.plans import Group, Place, Plan
from arriero.state_stores.salvage import salvage
from arriero.types.errors import ArrieroError, ConfigurationError, Conflict, StoreDamaged, StoreUnavailable

logger = logging.getLogger("arriero.state_stores")

T = TypeVar("T")

SCHEMA = 2
#: Marks a SQLite file as ours: "Arri".
APPLICATION = 0x41727269
#: Versions are reserved this many at a time, so that those of a lost process are never given again.
RESERVED = 1 << 20
#: How long another program may hold the file, in seconds.
BUSY = 5.0
#: Bytes up to which a file is read as a whole when it is opened, which takes some 0.01 s for each MiB.
VERIFIED = 32 * 1024 * 1024
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
#: The beginning of a file: what it is, the size of its pages, and how many there are.
HEAD = struct.Struct(">16sH10xI")
TITLE = b"SQLite format 3\0"
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Database:
    """One open file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._ownership = Ownership(path)
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._reserved = 0
        self._syncs = True
        self._patient = True
        self._behind = False
        self._has_unread = False
        self._files: list[tuple[int, int]] = []
        #: How many damaged records were met.
        self.damages = 0

    def guarded(self, work: Callable[[], T]) -> T:
        """Do it, with SQLite's errors told as the store's."""
        try:
            return work()
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except StoreDamaged:
            self.damages += 1
            raise
        except OSError as error:
            raise StoreUnavailable(f"the state store {self.path} cannot be used: {error}") from error

    def open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ownership.acquire()
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._check_length()
            self._check_log()
            self._connect()
            if self._has_unread:  # begin a new log, so that they are not found again behind what comes now
                self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if self._is_damaged():
                kept = salvage(self.path, self._opened, self._reserved)
                self._connect()
                self.damages += 1
                logger.error("%s was damaged: it was written anew, and is kept as it was in %s", self.path, kept)
            self._lengthen_log()
            self._files = self._found_files()
        except BaseException as error:
            self._let_go()
            if isinstance(error, sqlite3.Error) and _code(error) in (*DAMAGE, sqlite3.SQLITE_ERROR, 0):
                raise self._beyond_use(str(error)) from error
            raise

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self.path, timeout=BUSY, isolation_level=None, cached_statements=128, check_same_thread=False
        )
        self._check_file()
        self._set_up()

    def close(self) -> None:
        """Bring everything into the main file. What cannot be brought there now waits for the next open."""
        with suppress(sqlite3.Error):
            self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._let_go()

    def get(self, collection: str, key: str) -> tuple[bytes | None, int]:
        """Value and version; (None, 0) if it does not exist."""
        row = self._execute(statements.GET, (collection, key)).fetchone()
        return (statements.document_of(collection, row).value, row[2]) if row else (None, 0)

    def scan(self, collection: str, after: str, limit: int, *, backwards: bool) -> list[Document]:
        if backwards:
            rows = self._rows(statements.SCAN_BACK, (collection, after or statements.LAST, limit))
        else:
            rows = self._rows(statements.SCAN, (collection, after, limit))
        page = statements.page_of(collection, rows, after, backwards=backwards)
        self.damages += sum([document.damaged for document in page])
        return page

    def _rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
        self._opened.text_factory = _text
        try:
            return self._execute(sql, values).fetchall()
        finally:
            self._opened.text_factory = str

    def read_log(self, log: str, after: int, limit: int) -> list[Entry]:
        rows = self._execute(statements.READ_LOG, (log, after, limit)).fetchall()
        return statements.entries_of(log, after, rows)

    def head(self, log: str) -> Head:
        row = self._execute(statements.HEAD, (log,)).fetchone()
        return statements.head_of(row[0] if row else None)

    def commit(
        self, plans: Sequence[Plan], *, durable: bool, at_once: bool = False
    ) -> tuple[Group, list[Committed | Conflict]]:
        """Judge each plan against those before it, and write the good ones in one transaction.

        ``at_once`` waits for nobody who holds the file, and leaves it to others to bring the log into the main file.
        """
        if durable:
            self._check_files()
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

    def _check_files(self) -> None:
        """What is written to a file without a name is gone when this process ends."""
        if self._found_files() != self._files:
            raise StoreUnavailable(
                f"the state store {self.path} cannot be used: it, or its -wal, was removed or replaced while it was in "
                "use. Put both back, or end this process and start it anew with what there is",
                path=str(self.path),
            )

    def _found_files(self) -> list[tuple[int, int]]:
        """The identity of the main file and of its log. Errors: ``OSError`` other than that one is not there."""
        found = []
        for path in (self.path, self._log):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_dev, status.st_ino))
        return found

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
        self._execute_rows(statements.put, statements.written(group))
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
        row = self._execute(sql).fetchone()
        if row is None or not isinstance(row[0], int):
            raise self._beyond_use(f"a number is missing ({sql})")
        return row[0]

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

    def _check_length(self) -> None:
        """A file that says that it is longer was cut off; with a log, it may yet be lengthened."""
        with self.path.open("rb") as file:
            head = file.read(HEAD.size)
        if len(head) == HEAD.size and not (self._log.exists() and self._log.stat().st_size):
            title, page_size, pages = HEAD.unpack(head)
            if title == TITLE and self.path.stat().st_size < page_size * pages:
                raise self._beyond_use(f"it was cut off behind {self.path.stat().st_size} bytes")

    def _look_at_log(self) -> int:
        """How many commits are in the log and will not be read; a connection that only reads leaves it as it is."""
        if not self._log.exists():
            return 0
        with closing(sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True, timeout=BUSY)) as reader:
            try:
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return unread_commits(self.path)
            except sqlite3.Error:
                return 0  # told by who opens it to write

    def _check_log(self) -> None:
        """What the log holds behind a damaged place is lost; nobody is to find that out later."""
        unread = self._look_at_log()
        if not unread:
            return
        told = f"the log {self._log} is damaged: at least {unread} of its commits cannot be read"
        if self._ownership.was_killed:
            self._ownership.keeps_mark = True
            raise StoreDamaged(
                f"{told}. Restore it together with {self.path} from a backup, or remove {self.path}.lock to go on "
                "without them",
                path=str(self.path),
            )
        logger.error("%s; if power was cut, nobody was told that they were done", told)
        self._has_unread = True

    def _set_up(self) -> None:
        if self._execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise ConfigurationError(
                f"the file system of {self.path} cannot hold a SQLite store; name another place in state_store_uri"
            )
        for pragma in PRAGMAS:
            self._execute(f"PRAGMA {pragma}")
        self._execute("BEGIN IMMEDIATE")
        schema = self._number("PRAGMA user_version")
        if schema < SCHEMA:
            for statement in statements.ADD_CHECKSUMS if schema else statements.TABLES:
                self._execute(statement)
            self._execute(f"PRAGMA application_id = {APPLICATION}")
            self._execute(f"PRAGMA user_version = {SCHEMA}")
        self._version = self._number(statements.VERSIONS)
        self._reserved = self._version + RESERVED
        self._execute(statements.RESERVE_VERSIONS, (self._reserved,))
        self._execute("COMMIT")

    def _is_damaged(self) -> bool:
        """Look at the tree, where rows that are out of order hide others, and at every row, unless there are many."""
        if self._number("PRAGMA page_count") * self._number("PRAGMA page_size") > VERIFIED:
            return False
        try:
            if self._execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                return True
            return not (
                all(map(statements.whole_document, self._execute(statements.ALL_DOCUMENTS)))
                and all(map(statements.whole_entry, self._execute(statements.ALL_ENTRIES)))
            )
        except sqlite3.DatabaseError:
            return True

    def _lengthen_log(self) -> None:
        """Give the log the length at once that it comes to have, filled with zeros, at which a reader of it stops.

        A commit then only changes what is in the file, which the disk takes in two thirds of the time that it needs
        when the file grows as well. PostgreSQL does the same with its log (``wal_init_zero``).
        """
        with suppress(OSError), self._log.open("r+b") as file:  # without it all works as well, only slower
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

    def _beyond_use(self, why: str) -> StoreDamaged:
        return StoreDamaged(
            f"the state store {self.path} is damaged: {why}. Restore it from a backup, or move it and its -wal away to "
            f"begin with an empty one; sqlite3 {self.path} .recover tells what can still be read",
            path=str(self.path),
        )

    def _explained(self, error: sqlite3.Error) -> ArrieroError:
        if _code(error) in DAMAGE or "UTF-8" in str(error):
            self.damages += 1
            return StoreDamaged(f"the state store {self.path} is damaged: {error}", path=str(self.path))
        return StoreUnavailable(f"the state store {self.path} cannot be used: {error}", path=str(self.path))


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)  # what Python itself has found has none
    return code & 0xFF


def _text(stored: bytes) -> str:
    """Text of a row that is damaged, which is told by its checksum."""
    return stored.decode(errors="replace")
