"""The processes of a system: started together, started again when they are killed, ended by their ids in any case."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

DRAIN = 10.0  # seconds that a process has to end by itself
LAST_LINES = 15
#: How often a part is started again.
LIVES = 5

T = TypeVar("T")


class PartEnded(Exception):
    """A part of the system ended before its work was done."""


@dataclass(frozen=True)
class Part:
    name: str
    arguments: tuple[str, ...]
    process: Process
    log: Path
    lives: int = LIVES

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    @property
    def was_killed(self) -> bool:
        """Whether it ended because somebody outside wanted it to."""
        return self.process.returncode is not None and self.process.returncode <= 0

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
        """Run `python -m arriero ...`."""
        log = self.folder / f"{name}.log"
        self.started.append(Part(name, arguments, await self._process(log, arguments), log))

    async def during(self, work: Coroutine[Any, Any, T], told: Callable[[Part, Part], None] | None = None) -> T:
        """Do the work while all parts run. One that was killed is started again, and ``told`` of it.

        :class:`PartEnded` as soon as one ends otherwise.
        """
        doing = asyncio.create_task(work)
        watching = asyncio.create_task(self._watch(told))
        try:
            await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (doing, watching):
                task.cancel()
        await asyncio.wait({doing, watching})
        return watching.result() if doing.cancelled() else doing.result()

    async def _watch(self, told: Callable[[Part, Part], None] | None) -> Any:
        waits = {asyncio.create_task(part.process.wait()): part for part in self.started}
        try:
            while True:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for part in map(waits.pop, done):
                    again = await self._again(part)
                    waits[asyncio.create_task(again.process.wait())] = again
                    if told is not None:
                        told(part, again)
        finally:
            for task in waits:
                task.cancel()

    async def _again(self, part: Part) -> Part:
        if not part.was_killed or not part.lives:
            raise PartEnded(f"{part.name} ended with status {part.process.returncode}\n{part.last_words()}")
        process = await self._process(part.log, part.arguments)
        again = replace(part, process=process, lives=part.lives - 1)
        self.started[self.started.index(part)] = again
        return again

    async def _process(self, log: Path, arguments: tuple[str, ...]) -> Process:
        """In a session of its own: what a terminal sends for Ctrl-C goes to us alone."""
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "arriero", *arguments),
                cwd=self.folder,
                env=self.environment,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
            )

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
