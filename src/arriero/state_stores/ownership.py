"""The mark of the one process that uses a database file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from arriero.types.errors import AlreadyInUse


class Ownership:
    """A lock on ``<path>.lock``, which holds the owner's process id and the id of the system's start.

    The lock goes with the process, however it ends; the file stays, because removing it would let two processes each
    lock a file of that name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        #: Whether the last owner ended without a word, and no power was cut since, as far as the system tells.
        self.was_killed = False
        #: Whether the next owner is to find what this one has found.
        self.keeps_mark = False

    def acquire(self) -> None:
        """Raise :class:`AlreadyInUse`, which names the owner, when there is one."""
        file = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(file, 32).decode("ascii", "replace").partition("\n")[0] or "unknown"
            os.close(file)
            raise AlreadyInUse(
                f"{self._path} is in use by process {owner}; a SQLite store has one owner. Stop that process, or name "
                "another file in state_store_uri",
                path=str(self._path),
                owner=owner,
            ) from error
        except OSError:
            os.close(file)
            raise
        start = _system_start()
        self.was_killed = bool(start) and start.encode() in os.read(file, 256)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n{start}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            if not self.keeps_mark:
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def _system_start() -> str:
    """What names the run of the system since it was switched on; nothing where there is no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
