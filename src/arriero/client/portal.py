"""The thread in which synchronous clients run the asynchronous ones: one for the process, started on first use.

So a synchronous call works where an event loop runs already, from any number of threads, and interrupted at once.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that the end of the process waits for the connections to close.
LEAVE_PATIENCE = 2.0


class Portal:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="arriero-client", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start something there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop.result())

    def close(self) -> None:
        """End what runs there, close its connections, and end the thread."""
        self._loop.result().call_soon_threadsafe(self._stop.set)
        self._thread.join(LEAVE_PATIENCE)

    @property
    def inside(self) -> bool:
        """Whether this is the portal's own thread, which cannot wait for itself."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop.set_result(asyncio.get_running_loop())
        await self._stop.wait()


def call(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a coroutine function that runs there. Whoever is interrupted in waiting cancels it."""
    portal = _here()
    if portal.inside:
        raise RuntimeError("a synchronous client cannot be used in the thread that works for it")
    future = portal.submit(function(*args, **kwargs))
    try:
        return future.result()
    finally:
        future.cancel()
        del future  # its exception holds this frame


def iterate(pages: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """What an asynchronous generator gives, as it comes. Left early, the generator is closed."""
    turn = asyncio.Lock()

    async def advance() -> T | None:
        async with turn:
            return await anext(pages, None)

    async def leave() -> None:
        async with turn:
            await pages.aclose()

    try:
        while (page := call(advance)) is not None:
            yield page
    finally:
        # Not waited for: the garbage collector may be what closes this, in any thread.
        if _portal is not None:
            _portal.submit(leave())


_lock = threading.Lock()
_portal: Portal | None = None
_abandoned: list[Portal] = []


def _here() -> Portal:
    global _portal  # noqa: PLW0603  # one for the process
    portal = _portal
    if portal is None:
        with _lock:
            portal = _portal = _portal or Portal()
    return portal


@atexit.register
def _close() -> None:
    global _portal  # as above
    portal, _portal = _portal, None
    if portal is not None:
        portal.close()


def _forked() -> None:
    """In the child of a fork there is no such thread; what it held belongs to the parent and is left alone."""
    global _lock, _portal  # noqa: PLW0603  # as above
    _lock = threading.Lock()
    if _portal is not None:
        _abandoned.append(_portal)
        _portal = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
