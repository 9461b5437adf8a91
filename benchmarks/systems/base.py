"""What a measured system is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from load import Call
from processes import Processes


@dataclass(frozen=True)
class Budget:
    """What Arriero is to reach: milliseconds of one call, calls a second at 64 in flight."""

    p50_ms: float
    per_second: float


@dataclass(frozen=True)
class System:
    """``start`` starts its processes and gives the address that ``lanes`` connects to from the client's process."""

    name: str
    title: str
    guarantee: str
    start: Callable[[Processes], str]
    lanes: Callable[[str, int], AbstractAsyncContextManager[list[Call]]]
    budget: Budget | None = None
    #: Why it cannot be measured here, or nothing.
    absent: Callable[[], str] = lambda: ""
    #: Processes that it uses and that run anyway.
    servers: Callable[[], dict[str, int]] = dict


Lanes = AsyncIterator[list[Call]]
