"""Renewing a worker's lease from a thread, so that a handler that blocks the event loop does not lose its items."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback

from arriero.types.errors import ArrieroError
from arriero.types.link import ControlPlaneLink

logger = logging.getLogger("arriero.services")

#: How long a blocked event loop is covered, in seconds.
LONGEST_BLOCK = 60.0


class LeaseKeeper:
    """A thread that renews while the worker holds items and its event loop turns, and rests otherwise."""

    def __init__(self, link: ControlPlaneLink, worker_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._worker_id = worker_id
        self._loop = loop
        self._every = 5.0
        self._busy = threading.Event()
        self._ended = threading.Event()
        self._turned = time.monotonic()
        self._loop_thread = threading.get_ident()
        self._thread: threading.Thread | None = None

    def start(self, every: float) -> None:
        """Renew every so many seconds, from the first item on; 0 is for a worker that needs no lease."""
        self._every = every
        if self._thread is None and every > 0:
            self._thread = threading.Thread(target=self._run, name="arriero lease", daemon=True)
            self._thread.start()

    def busy(self, holds_items: bool) -> None:
        """Whether there is anything to keep."""
        if holds_items:
            if not self._busy.is_set():
                self._turned = time.monotonic()
                self._busy.set()
        else:
            self._busy.clear()

    def stop(self) -> None:
        self._ended.set()
        self._busy.set()

    def _run(self) -> None:
        warned = False
        while not self._ended.is_set():
            self._busy.wait()
            if self._ended.wait(self._every):
                return
            if not self._busy.is_set():
                continue
            blocked = time.monotonic() - self._turned
            self._ask_for_a_turn()
            if blocked > LONGEST_BLOCK:
                warned = warned or self._complain(blocked)
                continue
            warned = False
            self._renew()

    def _renew(self) -> None:
        try:
            self._link.renew(self._worker_id)
        except ArrieroError as error:
            logger.info("the lease was not renewed: %s", error)

    def _ask_for_a_turn(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._turn)
        except RuntimeError:
            self._ended.set()

    def _turn(self) -> None:
        self._turned = time.monotonic()

    def _complain(self, blocked: float) -> bool:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # the documented way to another thread's stack
        stack = "".join(traceback.format_stack(frame)) if frame else "unknown"
        logger.error("the event loop is blocked for %.0f s; its items are given up\n%s", blocked, stack)
        return True
