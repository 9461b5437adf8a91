"""How far the streams of tasks have come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from arriero.core import names
from arriero.core.kernel import Kernel
from arriero.state_stores.base import Head

NOTHING = Head()


async def heads_of(kernel: Kernel, task_id: str) -> AsyncGenerator[Head, None]:
    """How far the task's stream has come, each time that it has grown, until it ends or is removed with its task."""
    seen = -1
    async with aclosing(kernel.store.watch(names.stream_log(task_id))) as heads:
        async for head in heads:
            if head.seq < seen or (head == NOTHING and await kernel.store.get(names.TASKS, task_id) is None):
                return
            seen = head.seq
            yield head


async def next_head(kernel: Kernel, heads: AsyncGenerator[Head, None]) -> Head | None:
    """The next head; None when there is none, or when everything is to end."""
    try:
        async with kernel.waits.at_most(None):
            return await anext(heads, None)
    except TimeoutError:
        return None
