"""What is to be done later, and what is being done beside the requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from arriero.types.errors import StateConflict, Unavailable
from arriero.types.whole import Whole

T = TypeVar("T")

logger = logging.getLogger("arriero.core")

#: Seconds until an action is tried again that the store did not take.
AGAIN = 0.5


class Background:
    """Tasks that nobody awaits: named, kept alive, and heard when they fail."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._whole = Whole()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def whole(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Have it done as a whole, even when the caller is cancelled meanwhile."""
        return await self._whole.do(work, name)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)

    async def aclose(self) -> None:
        """Cancel what runs and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._whole.aclose()


class Waits:
    """Waits of requests, so that a stop need not wait for them."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self._ended = False

    def at_most(self, seconds: float | None) -> Wait:
        """Raises TimeoutError after that many seconds (None: never), and at once when everything is to end."""
        return Wait(self._open, asyncio.timeout(0 if self._ended else seconds))

    def end(self) -> None:
        """End all waits, and those that begin later."""
        self._ended = True
        for limit in self._open:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())


class Wait:
    """One wait, open for as long as the block that it is entered for."""

    __slots__ = ("_limit", "_open")

    def __init__(self, waits: set[asyncio.Timeout], limit: asyncio.Timeout) -> None:
        self._open = waits
        self._limit = limit

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._open.add(self._limit)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.discard(self._limit)
        await self._limit.__aexit__(exc_type, exc, traceback)


class Agenda:
    """One pending action for each key, done after a delay in seconds, and again while the store does not take it."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._handles: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def after(self, delay: float, kind: str, key: str, action: Callable[[], Awaitable[None]]) -> None:
        """Do it then; what was set for the same kind and key is replaced."""
        self.drop(kind, key)
        loop = asyncio.get_running_loop()
        self._handles[(kind, key)] = loop.call_later(max(0.0, delay), self._fire, kind, key, action)

    def drop(self, kind: str, key: str) -> None:
        handle = self._handles.pop((kind, key), None)
        if handle is not None:
            handle.cancel()

    def has(self, kind: str, key: str) -> bool:
        return (kind, key) in self._handles

    def _fire(self, kind: str, key: str, action: Callable[[], Awaitable[None]]) -> None:
        self._handles.pop((kind, key), None)
        self._background.start(self._run(kind, key, action), f"{kind} of {key}")

    async def _run(self, kind: str, key: str, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except (Unavailable, StateConflict) as error:
            logger.warning("%s of %s is tried again: %s", kind, key, error)
            if not self.has(kind, key):
                self.after(AGAIN, kind, key, action)

    def clear(self) -> None:
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
