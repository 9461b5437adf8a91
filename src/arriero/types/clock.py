"""The time of day, which an event loop may have of its own."""

from __future__ import annotations

import asyncio
import time

#: The name under which a loop with a time of its own keeps it: a function that gives seconds since the epoch.
OWN = "time_of_day"


def now() -> float:
    """Seconds since the epoch, as the running loop has it; tests move it. Called in coroutines and callbacks."""
    own = getattr(asyncio.get_running_loop(), OWN, None)
    return time.time() if own is None else float(own())
