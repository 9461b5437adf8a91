"""The processes of a system: started together, watched, and ended by their ids whatever happens."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

DRAIN = 10.0  # seconds that a process has to end by itself
LAST_LINES = 15

T = TypeVar("T")


class PartEnded(Exception):
    """A part of the system ended before its work was done."""


@dataclass(frozen=True)
class Part:
    name: str
    process: Process
    log: Path

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])

    async def end(self) -> None:
        """Ask it to end, and make it end when it does not."""
        if self.runs:
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), DRAIN)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.runs:
            self.process.kill()


@dataclass(frozen=True)
class Parts:
    """What has been started, in that order; each has a log in the folder."""

    folder: Path
    environment: dict[str, str]
    started: list[Part] = field(default_factory=list)

    async def start(self, name: str, *arguments: str) -> None:
        """Run `python -m arriero ...`, in a session of its own: what a terminal sends for Ctrl-C goes to us alone."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "arriero", *arguments),
                cwd=self.folder,
                env=self.environment,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
            )
        self.started.append(Part(name, process, log))

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work while all parts run; :class:`PartEnded` as soon as one does not."""
        doing = asyncio.create_task(work)
        waits = {asyncio.create_task(part.process.wait()): part for part in self.started}
        try:
            done, _ = await asyncio.wait({doing, *waits}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (doing, *waits):
                task.cancel()
        if doing in done:
            return doing.result()
        part = waits[done.pop()]
        raise PartEnded(f"{part.name} ended with status {part.process.returncode}\n{part.last_words()}")

    def last_words(self) -> str:
        return "\n".join(f"--- {part.name}\n{part.last_words()}" for part in self.started)


@asynccontextmanager
async def parts_in(folder: Path, environment: dict[str, str]) -> AsyncIterator[Parts]:
    """Parts that end with the block: the first, which the others need, after the others."""
    parts = Parts(folder, environment)
    try:
        yield parts
    finally:
        try:
            await asyncio.gather(*(part.end() for part in parts.started[1:]), return_exceptions=True)
            await asyncio.gather(*(part.end() for part in parts.started[:1]), return_exceptions=True)
        finally:
            for part in parts.started:
                part.kill()
