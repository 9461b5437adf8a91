"""Ctrl-C in a program that runs by ``asyncio.run``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ends_at_interrupt() -> Iterator[None]:
    """What is inside ends when the program is interrupted, and has then ended as it should.

    ``asyncio.run`` turns the first Ctrl-C into a cancellation of the program's main task, and shows a traceback if that
    comes out again. Any other cancellation does come out.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not _interrupted():
            raise
        task.uncancel()


def _interrupted() -> bool:
    """Whether ``asyncio.run`` has taken a Ctrl-C. It keeps that to itself, but its handler can be looked at."""
    runner = getattr(getattr(signal.getsignal(signal.SIGINT), "func", None), "__self__", None)
    return isinstance(runner, asyncio.Runner) and bool(getattr(runner, "_interrupt_count", 0))
