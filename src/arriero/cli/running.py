"""Running a part of the system as a process: its event loop, its signals, its log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger("arriero")

#: Seconds that a part's last tasks, and then its threads, get to end after it has drained.
PATIENCE = 2.0
#: Files and connections that a part may have open, where the system lets it.
OPEN_FILES = 20_000
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(part: Callable[[], Coroutine[Any, Any, None]], log_level: str) -> None:
    """Run until it ends or SIGINT or SIGTERM asks it to drain; a second signal ends it at once."""
    log = logging.StreamHandler()
    log.setLevel(log_level.upper())  # also for libraries that set the level of their own loggers
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(handlers=[log], level=log_level.upper(), format=form)
    if log_level != "debug":
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # Most of what a task leaves is freed by counting; looking for cycles every 700 objects costs some 5 % of all time.
    gc.set_threshold(20_000, 20, 100)
    _allow_open_files()
    main = _until_signalled(part)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(main)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) or inspect.getcoroutinestate(main) != inspect.CORO_CLOSED:
                _crash(error)
            raise


def _crash(error: BaseException) -> None:
    """What is served stopped the event loop, or cancelled everything on it. Nothing is given back as if nothing had
    happened: what was in work counts as lost with its worker, so that it does not take down one after another.
    """
    logger.critical("something that runs here has stopped the event loop, and this process ends", exc_info=error)
    _end(1)


def _allow_open_files() -> None:
    """Every reader of a stream is a connection, and many systems allow a process 1024 files unless it asks for more."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _until_signalled(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(part())
    asked = False

    def stop(number: int, _: Any) -> None:
        nonlocal asked
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        asked = True
        logger.info("%s: draining; a second one ends it at once", signal.Signals(number).name)
        loop.call_soon_threadsafe(task.cancel)

    # Not the loop's own handlers: those wait for a handler that blocks the loop.
    for each in SIGNALS:
        signal.signal(each, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not asked:
            raise
        await _leave_behind()


async def _leave_behind() -> None:
    """What heeds no cancellation, and any thread, would keep the process for ever: it ends nevertheless."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others and (await asyncio.wait(others, timeout=PATIENCE))[1]:
        _end(0)
    ending = threading.Timer(PATIENCE, _end, (0,))
    ending.daemon = True
    ending.start()


def _end(code: int) -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # it may be closed, or none
            stream.flush()
    os._exit(code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
