"""Reading what tasks stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from arriero.core import names
from arriero.core.kernel import Kernel
from arriero.state_stores.base import Entry, Head

PAGE = 200
NOTHING = Head()


class Streams:
    """Streams of tasks: any number of readers, from any place, each entry once and in order."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def _next(self, heads: AsyncIterator[Head]) -> Head | None:
        """The next head; None when there is none, or when everything is to end."""
        try:
            async with self._kernel.waits.at_most(None):
                return await anext(heads, None)
        except TimeoutError:
            return None

    async def follow(self, task_id: str, after: int = 0) -> AsyncGenerator[list[Entry], None]:
        """Pages of the task's stream behind ``after``, as they come; ends with the stream."""
        log = names.stream_log(task_id)
        store = self._kernel.store
        async with aclosing(heads_of(self._kernel, task_id)) as heads:
            while (head := await self._next(heads)) is not None:
                while after < head.seq:
                    page = await store.read_log(log, after, PAGE)
                    if not page:
                        return
                    after = page[-1].seq
                    yield page


async def heads_of(kernel: Kernel, task_id: str) -> AsyncGenerator[Head, None]:
    """How far the task's stream has come, each time that it has grown, until it ends or is removed with its task."""
    seen = -1
    async with aclosing(kernel.store.watch(names.stream_log(task_id))) as heads:
        async for head in heads:
            if head.seq < seen or (head == NOTHING and await kernel.store.get(names.TASKS, task_id) is None):
                return
            seen = head.seq
            yield head
