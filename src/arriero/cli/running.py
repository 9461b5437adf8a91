"""Running a part of the system as a process: its event loop, its signals, its log."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any


def run(part: Callable[[], Coroutine[Any, Any, None]], log_level: str) -> None:
    """Run until it ends or SIGINT or SIGTERM asks it to drain; a second signal ends it at once."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if log_level != "debug":
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_until_signalled(part))


async def _until_signalled(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(part())
    asked = False

    def stop(number: signal.Signals) -> None:
        nonlocal asked
        asked = True
        logging.getLogger("arriero").info("%s: draining", number.name)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not asked:
            raise


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
