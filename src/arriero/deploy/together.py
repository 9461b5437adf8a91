"""Parts that run together and end together, with the fault of one of them as the fault of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first fault itself, rather than a group of one."""
    try:
        async with asyncio.TaskGroup() as parts:
            yield parts
    except BaseExceptionGroup as faults:
        raise _first(faults) from None


def _first(fault: BaseException) -> BaseException:
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault
