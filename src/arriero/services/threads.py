"""Threads for code that blocks: as many as are blocked, and none that a process has to wait for."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Threads(ThreadPoolExecutor):
    """An executor for handlers. A thread cannot be stopped, so one that never returns must not stand in the way.

    A call takes a thread that rests, or a new one; so calls that are stuck keep none from running, where a pool of
    limited size would be used up. The threads end with the process, whatever they are at.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._resting: list[SimpleQueue[_Job]] = []

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        job = (future, fn, args, kwargs)
        try:
            jobs = self._resting.pop()
        except IndexError:
            jobs = SimpleQueue()
            threading.Thread(target=self._work, args=(jobs,), name="arriero handler", daemon=True).start()
        jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is waited for."""

    def _work(self, jobs: SimpleQueue[_Job]) -> None:
        while True:
            _do(*jobs.get())
            self._resting.append(jobs)


def _do(future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except StopIteration as error:  # which no future of asyncio takes, so that its waiter would wait for ever
        future.set_exception(RuntimeError(f"{type(error).__name__} was raised: {error}"))
    except BaseException as error:  # noqa: BLE001  # the caller's to judge
        future.set_exception(error)
    else:
        future.set_result(result)


#: The threads of all handlers of this process.
THREADS = Threads()


async def in_thread(function: Callable[..., T], **arguments: Any) -> T:
    """Call a function in a thread, with the context of the caller."""
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(THREADS, lambda: context.run(function, **arguments))
