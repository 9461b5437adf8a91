"""Time that does not pass while anything is at work: for tests that sleep without waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from arriero.types.clock import OWN
from arriero.types.errors import ConfigurationError

#: Real seconds without news from a socket of the test's own, after which nothing more is expected of it.
QUIET = 0.05
#: Seconds that a turn of the loop takes.
TURN = 2e-9
#: Where a loop of asyncio keeps what tells it of files, and lets time pass.
_SELECTOR = "_selector"


class VirtualTime:
    """The time of one event loop, while it is :meth:`installed <install>`.

    Nothing moves it but the loop itself, when all that could run has run: then it jumps to the next timer. So
    ``asyncio.sleep(3600)`` takes no time, timers fire in their order, and what happens between two of them happens at
    one moment. Work in threads is waited for. Needs a loop of :mod:`asyncio` itself. ``start`` is the time of day at
    the beginning, by default what it really is.
    """

    def __init__(self, start: float | None = None) -> None:
        self._start = time.time() if start is None else start
        self._base = self._now = 0.0
        self._loop: Any = None
        self._selector: Any = None
        self._threads = 0
        self._own = 0
        self._settled: asyncio.Future[None] | None = None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take over the time of this loop. Errors: ``ConfigurationError`` if it is of another kind."""
        selector = getattr(loop, _SELECTOR, None)
        if selector is None:
            kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
            raise ConfigurationError(f"virtual time needs an event loop of asyncio itself, not {kind}")
        self._base = self._now = loop.time()
        self._loop, self._selector = loop, selector
        self._own = self._files()
        self._execute = loop.run_in_executor
        changes = {"time": self._time, _SELECTOR: self, "run_in_executor": self._in_executor, OWN: self.time_of_day}
        for name, value in changes.items():
            setattr(loop, name, value)

    def remove(self) -> None:
        """Give the loop its own time back."""
        loop, self._loop = self._loop, None
        setattr(loop, _SELECTOR, self._selector)
        for name in ("time", "run_in_executor", OWN):
            delattr(loop, name)

    @property
    def passed(self) -> float:
        """Seconds since the beginning, to the microsecond."""
        return round(self._now - self._base, 6)

    def time_of_day(self) -> float:
        """Seconds since the epoch."""
        return self._start + (self._now - self._base)

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, and let everything be done that is due by then."""
        await asyncio.sleep(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is left to do before the next timer."""
        if self._settled is None or self._settled.done():
            self._settled = self._loop.create_future()
        await asyncio.shield(self._settled)

    def _time(self) -> float:
        return self._now

    def _in_executor(self, executor: Any, work: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._execute(executor, work, *arguments)
        self._threads += 1
        future.add_done_callback(self._done_in_thread)
        return future

    def _done_in_thread(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1

    # What the loop asks of its selector

    def select(self, timeout: float | None = None) -> Any:
        """Files that are ready, or nothing, when time has passed instead."""
        self._now += TURN  # whoever looks again, for a timer may be early by the loop's resolution, finds it later
        if timeout is not None and timeout <= 0:
            return self._selector.select(0)
        if self._threads:
            return self._selector.select(None)
        if ready := self._selector.select(QUIET if self._files() > self._own else 0):
            return ready
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
            return []
        if timeout is None:
            return self._selector.select(None)
        self._now += timeout
        return []

    def _files(self) -> int:
        files = self._selector.get_map()
        return len(files) if files is not None else 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)
