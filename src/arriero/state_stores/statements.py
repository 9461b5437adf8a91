"""The SQL of the SQLite store: tables, statements for many rows at once, and rows read back.

A statement is made for 1, 2, 4 ... rows and filled up with NULL, so that few are ever prepared and a group of any size
is written by a handful of them: each one gives up the interpreter's lock and has to win it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

from arriero.state_stores.base import Document, Entry, Head
from arriero.state_stores.plans import NO_HEAD, Group
from arriero.types.errors import StoreDamaged

#: Most rows of one statement.
MOST_ROWS = 128

#: A log's end is a row without a value behind its last entry.
TABLES = (
    """CREATE TABLE documents (
        collection TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (collection, key)
    ) WITHOUT ROWID""",
    "CREATE TABLE entries (log TEXT NOT NULL, seq INTEGER NOT NULL, value BLOB, PRIMARY KEY (log, seq)) WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('versions', 0), ('synced', 0)",
)
VERSIONS = "SELECT number FROM meta WHERE name = 'versions'"
RESERVE_VERSIONS = "UPDATE meta SET number = ? WHERE name = 'versions'"
TOUCH = "UPDATE meta SET number = ? WHERE name = 'synced'"

GET = "SELECT value, version FROM documents WHERE collection = ? AND key = ?"
SCAN = "SELECT key, value, version FROM documents WHERE collection = ? AND key > ? ORDER BY key LIMIT ?"
SCAN_BACK = "SELECT key, value, version FROM documents WHERE collection = ? AND key < ? ORDER BY key DESC LIMIT ?"
#: Behind every text: SQLite sorts bytes behind text.
LAST = b""
READ_LOG = "SELECT seq, value FROM entries WHERE log = ? AND seq > ? AND value IS NOT NULL ORDER BY seq LIMIT ?"
#: The last row of a log as one number: its seq twice, plus 1 if it is the end.
HEAD = "SELECT seq * 2 + (value IS NULL) FROM entries WHERE log = ? ORDER BY seq DESC LIMIT 1"
REPLACING = "ON CONFLICT (collection, key) DO UPDATE SET version = excluded.version, value = excluded.value"
VERSION = "SELECT version FROM documents WHERE collection = ? AND key = ?"


def size_for(rows: int) -> int:
    """The statement's size for so many rows: the next power of two."""
    return 1 << (rows - 1).bit_length()


def filled(rows: Sequence[Sequence[Any]], size: int, width: int) -> list[Any]:
    """The values of the rows one after another, filled up with None."""
    values = list(chain.from_iterable(rows))
    return values + [None] * (size * width - len(values))


@cache
def standing(size: int) -> str:
    """One row: so many versions of documents, then so many heads of logs."""
    return "SELECT " + ", ".join([f"({VERSION})"] * size + [f"({HEAD})"] * size)


def _rows_given(row: str, size: int) -> str:
    return f"SELECT * FROM (VALUES {', '.join([row] * size)}) WHERE column1 IS NOT NULL"  # noqa: S608  # no value is in it


@cache
def put(size: int) -> str:
    return f"INSERT INTO documents {_rows_given('(?, ?, ?, ?)', size)} {REPLACING}"


@cache
def append(size: int) -> str:
    return f"INSERT INTO entries {_rows_given('(?, ?, ?)', size)}"


@cache
def delete(size: int) -> str:
    return f"DELETE FROM documents WHERE {' OR '.join(['(collection = ? AND key = ?)'] * size)}"  # noqa: S608  # as above


@cache
def drop(size: int) -> str:
    return f"DELETE FROM entries WHERE log IN ({', '.join('?' * size)})"  # noqa: S608  # as above


def appended(group: Group) -> list[tuple[str, int, bytes | None]]:
    """The rows that the group adds to logs."""
    rows: list[tuple[str, int, bytes | None]] = []
    for log, change in group.logs.items():
        rows += [(log, seq, value) for seq, value in enumerate(change.values, change.start + 1)]
        if change.head.ended:
            rows.append((log, change.head.seq + 1, None))
    return rows


def head_of(number: int | None) -> Head:
    """A log's head from what ``HEAD`` gave."""
    if number is None:
        return NO_HEAD
    return Head((number >> 1) - (number & 1), bool(number & 1))


def document_of(collection: str, row: tuple[Any, ...]) -> Document:
    key, value, version = row
    return Document(key, intact(value, f"document {key!r} in {collection!r}"), version)


def entry_of(log: str, row: tuple[Any, ...]) -> Entry:
    seq, value = row
    return Entry(seq, intact(value, f"entry {seq} of {log!r}"))


def intact(value: Any, what: str) -> bytes:
    """The stored value, unless something else than a store has written it."""
    if not isinstance(value, bytes):
        raise StoreDamaged(f"the stored {what} cannot be read: it is {type(value).__name__}, not bytes")
    return value
