"""A damaged SQLite file written anew: every row that can be read and is whole, and what is known of the others."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from arriero.state_stores import statements

Row = tuple[Any, ...]

#: A new file is smaller than the old one, since its pages are full; but not by more than this, unless much was lost.
LEAST = 3
#: Pages that may be there for nothing.
UNUSED = 4

#: How a row of either table is looked at, and what stands for one that is damaged.
OF_DOCUMENTS = (statements.whole_document, statements.lost_document)
OF_ENTRIES = (statements.whole_entry, statements.lost_entry)


def salvage(path: Path, connection: sqlite3.Connection, versions: int) -> Path:
    """Replace the file by one of its readable rows; gives where the damaged file was kept.

    A row that is damaged is replaced by a mark in its place, if that can be read. The connection is closed. A process
    that dies meanwhile leaves either file, whole.
    """
    kept, new = _free(path), path.with_name(f"{path.name}.mending")
    new.unlink(missing_ok=True)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with closing(sqlite3.connect(new, isolation_level=None)) as target:
        _fill(connection, target, versions)
        if _pages(target) * LEAST < _pages(connection) - UNUSED:
            raise sqlite3.DatabaseError("most of its rows cannot be read")
    new.chmod(0o600)
    connection.close()
    shutil.copy2(path, kept)
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return kept


def _pages(connection: sqlite3.Connection) -> int:
    """How many pages are in use."""
    pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    return int(pages) - int(free)


def _free(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept


def _fill(source: sqlite3.Connection, target: sqlite3.Connection, versions: int) -> None:
    target.execute("PRAGMA synchronous = FULL")
    target.execute("BEGIN")
    for statement in statements.TABLES:
        target.execute(statement)
    source.text_factory = lambda stored: stored.decode(errors="replace")
    documents = _rows(source, statements.ALL_DOCUMENTS, "collection DESC, key DESC", *OF_DOCUMENTS)
    target.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", documents)
    entries = _rows(source, statements.ALL_ENTRIES, "log DESC, seq DESC", *OF_ENTRIES)
    if entries and not documents:
        raise sqlite3.DatabaseError("none of its documents can be read")
    target.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", entries)
    target.execute(statements.RESERVE_VERSIONS, (max([versions, *(row[2] for row in documents)]),))
    for name in ("application_id", "user_version"):
        target.execute(f"PRAGMA {name} = {source.execute(f'PRAGMA {name}').fetchone()[0]}")
    target.execute("COMMIT")


def _rows(
    source: sqlite3.Connection, sql: str, back: str, whole: Callable[[Row], bool], lost: Callable[[Row], Row]
) -> list[Row]:
    """Those that can be read from either side. Of two in one place, of which one is damaged, the whole one stands."""
    found: dict[tuple[Any, Any], Row] = {}
    marks: dict[tuple[Any, Any], Row] = {}
    for each in (sql, f"{sql} ORDER BY {back}"):
        for row in _readable(source, each):
            if whole(row):
                found[row[0], row[1]] = row
            else:
                mark = lost(row)
                marks[mark[0], mark[1]] = mark
    return list((marks | found).values())


def _readable(source: sqlite3.Connection, sql: str) -> Iterator[Row]:
    with suppress(sqlite3.DatabaseError):
        yield from source.execute(sql)
