"""Work that is not done by halves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def closed_by(error: BaseException, task: asyncio.Task[Any]) -> bool:
    """Whether the error closes the coroutine of a task from outside, which what it awaits did not raise."""
    return isinstance(error, GeneratorExit) and asyncio.current_task(task.get_loop()) is not task


class Whole:
    """Has work done as a whole, even when whoever asked for it is cancelled meanwhile."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def do(self, work: Coroutine[Any, Any, T], name: str | None = None) -> T:
        """Its result, or what it raises; nobody has to hear of that who has gone."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Cancel what is under way and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()
