"""Ctrl-C in a program that runs by ``asyncio.run``."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


@contextmanager
def ends_at_interrupt() -> Iterator[None]:
    """What is inside ends when the program is interrupted, and has then ended as it should.

    ``asyncio.run`` turns the first Ctrl-C into a cancellation of the program's main task, and shows a traceback if that
    comes out again. Any other cancellation does come out. When this is one of several parts, in a ``gather`` or a task
    group, the main task stays cancelled, and the program ends by the interrupt; but without a traceback.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not _interrupted():
            raise
        task.uncancel()
        _show_no_interrupt()


def _interrupted() -> bool:
    """Whether ``asyncio.run`` has taken a Ctrl-C. It keeps that to itself, but its handler can be looked at."""
    runner = getattr(getattr(signal.getsignal(signal.SIGINT), "func", None), "__self__", None)
    return isinstance(runner, asyncio.Runner) and bool(getattr(runner, "_interrupt_count", 0))


def _show_no_interrupt() -> None:
    """What has drained has nothing to report: the ``KeyboardInterrupt`` of ``asyncio.run`` is not printed."""
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not (isinstance(error, KeyboardInterrupt) and isinstance(error.__context__, asyncio.CancelledError)):
            before(kind, error, traceback)

    sys.excepthook = show
