"""Processes: started and ended together, and what the kernel counts of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
#: Where databases lie: on a disk, which a temporary folder need not be.
_DISK = Path("/var/tmp")  # noqa: S108 - a folder with a name of its own is made in it
PLACE = _DISK if _DISK.is_dir() else None
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
#: How long a process may take to end, in seconds.
GRACE = 10


class Processes:
    """Programs that run until the block ends, each with a role and a log of its own in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._after = ExitStack()

    @property
    def pids(self) -> dict[str, int]:
        return {role: process.pid for role, process in self._running.items()}

    def start(self, role: str, *arguments: str, **environment: str) -> None:
        """Start a Python of this environment with these arguments, in the folder of the benchmarks."""
        with (self.folder / f"{role}.log").open("wb") as log:
            self._running[role] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=HERE,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self, role: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End this one with a signal, SIGTERM unless told otherwise, and return when it is gone."""
        process = self._running.pop(role)
        process.send_signal(number)
        process.wait(GRACE)

    def callback(self, clean: Callable[[], None]) -> None:
        """Call it when all of them have ended."""
        self._after.callback(clean)

    def trouble(self) -> str:
        """The end of each log, for the report of a measurement that failed."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.stem}\n{log.read_text(errors='replace')[-1000:]}" for log in logs)

    def ended(self) -> list[str]:
        """The roles whose processes ended by themselves, which none of them should."""
        return [role for role, process in self._running.items() if process.poll() is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._after:
            self._end()

    def _end(self) -> None:
        families = {role: family(process.pid) for role, process in self._running.items()}
        for process in self._running.values():
            process.terminate()
        for role, process in self._running.items():
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                for pid in families[role]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    """The process and its descendants that live."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
    found = [pid]
    for member in found:
        found.extend(child for child, parent in parents.items() if parent == member)
    return found


def kill(pid: int) -> None:
    """Kill the process and its descendants, as far as they live."""
    with suppress(OSError):
        for member in family(pid):
            os.kill(member, signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, of the process and its descendants, also of those that have ended."""
    fields = [_stat(member) for member in family(pid)]
    return sum(int(spent) for field in fields for spent in field[11:15]) / TICKS


def machine_seconds() -> float:
    """Processor time that the whole machine has used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, waiting = fields[3:5]
    return (sum(fields) - idle - waiting) / TICKS


def resident(pid: int) -> float:
    """Memory in MiB that the process and its descendants hold."""
    fields = [_stat(member) for member in family(pid)]
    return sum(int(field[21]) for field in fields) * PAGE / 2**20


class Disturbance:
    """How much of the processors' time other programs use, from now on."""

    def __init__(self, roles: dict[str, int]) -> None:
        self._roles = roles
        self._start = time.monotonic()
        self._before = self._others()

    def share(self) -> float:
        seconds = time.monotonic() - self._start
        return max(0.0, self._others() - self._before) / seconds / len(os.sched_getaffinity(0))

    def _others(self) -> float:
        return machine_seconds() - sum(cpu_seconds(pid) for pid in self._roles.values())


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat that follow the name: state, parent, ..."""
    text = (Path("/proc") / str(pid) / "stat").read_text()
    return text.rpartition(")")[2].split()
