"""The SQL of the SQLite store: tables, statements for many rows at once, and rows read back.

A statement is made for 1, 2, 4 ... rows and filled up with NULL, so that few are ever prepared and a group of any size
is written by a handful of them: each one gives up the interpreter's lock and has to win it back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any
from zlib import crc32

from arriero.state_stores.base import Document, Entry, Head
from arriero.state_stores.plans import NO_HEAD, Group
from arriero.types.errors import StoreDamaged

logger = logging.getLogger("arriero.state_stores")

#: The checksum of a row that was found damaged: it is no other row's.
LOST = -1
#: Most rows of one statement.
MOST_ROWS = 128

#: A log's end is a row without a value behind its last entry. ``crc`` is that of the whole row; one that was written
#: before there was such a column has none.
TABLES = (
    """CREATE TABLE documents (
        collection TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL, crc INTEGER,
        PRIMARY KEY (collection, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE entries (
        log TEXT NOT NULL, seq INTEGER NOT NULL, value BLOB, crc INTEGER, PRIMARY KEY (log, seq)
    ) WITHOUT ROWID""",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('versions', 0), ('synced', 0)",
)
#: What brings tables without checksums up to date: it takes no longer the more there is in them.
ADD_CHECKSUMS = ("ALTER TABLE documents ADD COLUMN crc INTEGER", "ALTER TABLE entries ADD COLUMN crc INTEGER")
VERSIONS = "SELECT number FROM meta WHERE name = 'versions'"
RESERVE_VERSIONS = "UPDATE meta SET number = ? WHERE name = 'versions'"
TOUCH = "UPDATE meta SET number = ? WHERE name = 'synced'"

ALL_DOCUMENTS = "SELECT collection, key, version, value, crc FROM documents"
ALL_ENTRIES = "SELECT log, seq, value, crc FROM entries"
GET = "SELECT key, value, version, crc FROM documents WHERE collection = ? AND key = ?"
SCAN = "SELECT key, value, version, crc FROM documents WHERE collection = ? AND key > ? ORDER BY key LIMIT ?"
SCAN_BACK = "SELECT key, value, version, crc FROM documents WHERE collection = ? AND key < ? ORDER BY key DESC LIMIT ?"
#: Behind every text: SQLite sorts bytes behind text.
LAST = b""
READ_LOG = "SELECT seq, value, crc FROM entries WHERE log = ? AND seq > ? ORDER BY seq LIMIT ?"
#: The last row of a log as one number: its seq twice, plus 1 if it is the end.
HEAD = "SELECT seq * 2 + (value IS NULL) FROM entries WHERE log = ? ORDER BY seq DESC LIMIT 1"
SAME = "version = excluded.version, value = excluded.value, crc = excluded.crc"
REPLACING = f"ON CONFLICT (collection, key) DO UPDATE SET {SAME}"
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
    return f"INSERT INTO documents {_rows_given('(?, ?, ?, ?, ?)', size)} {REPLACING}"


@cache
def append(size: int) -> str:
    return f"INSERT INTO entries {_rows_given('(?, ?, ?, ?)', size)}"


@cache
def delete(size: int) -> str:
    return f"DELETE FROM documents WHERE {' OR '.join(['(collection = ? AND key = ?)'] * size)}"  # noqa: S608  # as above


@cache
def drop(size: int) -> str:
    return f"DELETE FROM entries WHERE log IN ({', '.join('?' * size)})"  # noqa: S608  # as above


def written(group: Group) -> list[tuple[str, str, int, bytes, int]]:
    """The rows of the documents that the group leaves."""
    return [
        (collection, key, version, value, _crc(f"{collection}\0{key}\0{version}", value))
        for (collection, key), (value, version) in group.documents.items()
        if value is not None
    ]


def appended(group: Group) -> list[tuple[str, int, bytes | None, int]]:
    """The rows that the group adds to logs."""
    rows: list[tuple[str, int, bytes | None, int]] = []
    for log, change in group.logs.items():
        rows += [
            (log, seq, value, _crc(f"{log}\0{seq}", value)) for seq, value in enumerate(change.values, change.start + 1)
        ]
        if change.head.ended:
            end = change.head.seq + 1
            rows.append((log, end, None, _crc(f"{log}\0{end}", None)))
    return rows


def head_of(number: int | None) -> Head:
    """A log's head from what ``HEAD`` gave."""
    if number is None:
        return NO_HEAD
    return Head((number >> 1) - (number & 1), bool(number & 1))


def document_of(collection: str, row: tuple[Any, ...]) -> Document:
    """The document in a row. Errors: ``StoreDamaged``."""
    key, value, version, crc = row
    what = f"document {key!r} in {collection!r}"
    return Document(key, _intact(value, crc, f"{collection}\0{key}\0{version}", what), version)


def page_of(collection: str, rows: Sequence[tuple[Any, ...]], after: str, *, backwards: bool) -> list[Document]:
    """The documents of a scan, in whose order those that are damaged cannot be trusted.

    A page does not end with a damaged one while there is another, since the next page begins where it ends; and none
    is given that stands before its beginning.
    """
    page = [_document_or_damage(collection, row) for row in rows]
    if page and page[-1].damaged:
        if after:
            page = [each for each in page if (each.key < after if backwards else each.key > after)]
        while len(page) > 1 and page[-1].damaged and not all(each.damaged for each in page):
            page.pop()
    return page


def _document_or_damage(collection: str, row: tuple[Any, ...]) -> Document:
    try:
        return document_of(collection, row)
    except StoreDamaged as error:
        logger.error("%s", error)  # noqa: TRY400  # what it says is all there is
        return Document(str(row[0]), b"", row[2], damaged=True)


def entries_of(log: str, after: int, rows: Sequence[tuple[Any, ...]]) -> list[Entry]:
    """The entries behind that one, without the log's end. Errors: ``StoreDamaged``."""
    entries = []
    for number, (seq, value, crc) in enumerate(rows, after + 1):
        what = f"entry {number} of {log!r}"
        if seq != number:
            raise StoreDamaged(f"the stored {what} is missing: {seq} follows")
        if value is None and crc is None:  # an end that was written without a checksum
            continue
        if value is not None:
            entries.append(Entry(seq, _intact(value, crc, f"{log}\0{seq}", what)))
        elif crc != _crc(f"{log}\0{seq}", None):
            raise StoreDamaged(f"the stored {what} cannot be read: its checksum differs")
    return entries


def whole_document(row: tuple[Any, ...]) -> bool:
    """Whether a row of ``ALL_DOCUMENTS`` is as it was written."""
    collection, key, version, value, crc = row
    if not (isinstance(key, str) and isinstance(version, int) and isinstance(value, bytes)):
        return False
    return crc in (None, LOST, _crc(f"{collection}\0{key}\0{version}", value))


def whole_entry(row: tuple[Any, ...]) -> bool:
    """Whether a row of ``ALL_ENTRIES`` is as it was written."""
    log, seq, value, crc = row
    if not (isinstance(log, str) and isinstance(seq, int) and isinstance(value, bytes | None)):
        return False
    return crc in (None, LOST, _crc(f"{log}\0{seq}", value))


def lost_document(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """What stands for a row of ``ALL_DOCUMENTS`` that is damaged, so that it is damaged and not missing."""
    collection, key, version = row[:3]
    return str(collection), str(key), version if isinstance(version, int) else 0, b"", LOST


def lost_entry(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same for a row of ``ALL_ENTRIES``."""
    return str(row[0]), row[1] if isinstance(row[1], int) else 0, b"", LOST


def _crc(place: str, value: bytes | None) -> int:
    crc = crc32(place.encode())
    return ~crc & 0xFFFFFFFF if value is None else crc32(value, crc)


def _intact(value: Any, crc: int | None, place: str, what: str) -> bytes:
    """The stored value, unless something else than a store has written it."""
    if not isinstance(value, bytes):
        raise StoreDamaged(f"the stored {what} cannot be read: it is {type(value).__name__}, not bytes")
    if crc == LOST:
        raise StoreDamaged(f"the stored {what} was found damaged, and is lost")
    if crc is not None and crc != _crc(place, value):
        raise StoreDamaged(f"the stored {what} cannot be read: its checksum differs")
    return value
