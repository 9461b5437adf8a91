"""What SQLite leaves unread in the log of a file (its ``-wal``), as https://sqlite.org/walformat.html describes it.

SQLite takes the first frame whose checksum is wrong for the end of the log: so it should, after a power cut, of what
was not yet on the disk. Where no power was cut, commits behind that frame were acknowledged, and are lost.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

HEADER, FRAME = struct.Struct(">8I"), struct.Struct(">6I")
LITTLE, BIG = 0x377F0682, 0x377F0683
#: Where the index of the log, in the machine's own order of bytes, has the number of frames that are read.
READ = struct.Struct("=16xI")


def unread_commits(path: Path) -> int:
    """How many whole commits of the log SQLite does not read, once it has read it; 1 for a log that it cannot begin."""
    log, index = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    if not log.exists() or log.stat().st_size < HEADER.size:
        return 0
    with log.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        magic, _, page_size, _, *_ = header = HEADER.unpack_from(content)
        words = "<" if magic == LITTLE else ">"
        if magic not in (LITTLE, BIG) or _sum(content[:24], (0, 0), words) != header[6:]:
            return int(any(content[: HEADER.size + FRAME.size]))
        read = READ.unpack(index.read_bytes()[: READ.size])[0] if index.exists() else 0
        places = range(HEADER.size + read * (FRAME.size + page_size), len(content), FRAME.size + page_size)
        return sum(_is_commit(content, place, header, words) for place in places[1:])


def _is_commit(content: mmap.mmap, place: int, header: tuple[int, ...], words: str) -> bool:
    """Whether the frame there ends a commit of this log, and stands as it was written behind the one before it."""
    page_size = header[2]
    if place + FRAME.size + page_size > len(content):
        return False
    _, commits, *rest = FRAME.unpack_from(content, place)
    if not commits or tuple(rest[:2]) != header[4:6]:
        return False
    before = FRAME.unpack_from(content, place - FRAME.size - page_size)
    data = content[place : place + 8] + content[place + FRAME.size : place + FRAME.size + page_size]
    return _sum(data, before[4:], words) == tuple(rest[2:])


def _sum(data: bytes, start: tuple[int, ...], words: str) -> tuple[int, int]:
    first, second = start
    for one, two in struct.iter_unpack(f"{words}2I", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second
