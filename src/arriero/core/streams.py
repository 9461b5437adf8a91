"""Reading what tasks stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from arriero.core import names
from arriero.core.heads import heads_of, next_head
from arriero.core.kernel import Kernel
from arriero.core.pages import Form, PageCache, Pages
from arriero.core.readers import Live, Reader
from arriero.core.wakes import Wakes
from arriero.state_stores.base import Entry, Head
from arriero.types.errors import NotFound, TooManyStreams

PAGE = 200


class Streams:
    """Streams of tasks: any number of readers, from any place, each entry once and in order."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._wakes = Wakes()
        self.cache = PageCache()
        self._live: dict[str, Live] = {}
        self._open = 0

    async def read(self, task_id: str, form: Form, after: int = 0, silence: float | None = None) -> Reader:
        """A reader of the task's stream behind the entry ``after``, to be closed; ``form`` writes the entries.

        Readers with the same form share what was written. Errors: ``TooManyStreams``; ``NotFound`` for a cursor
        that no entry of the stream has had.
        """
        limit = self._kernel.config.max_streams
        if self._open >= limit:
            raise TooManyStreams(
                f"{limit} streams are open, which is the limit (setting max_streams of ControlPlaneConfig, "
                "CONTROL_PLANE_MAX_STREAMS); try again when one has ended",
                retry_after=1.0,
                limit=limit,
                setting="max_streams",
            )
        live = self._enter(task_id)
        reader = Reader(live, form, after, silence, lambda: self._leave(task_id, live))
        try:
            await live.opened()
            if after > live.head.seq and (live.head.ended or not live.over):
                raise beyond(after, live.head)
        except BaseException:
            reader.close()
            raise
        return reader

    async def follow(self, task_id: str, after: int = 0) -> AsyncGenerator[list[Entry], None]:
        """Pages of the task's stream behind ``after``, as they come; ends with the stream."""
        log = names.stream_log(task_id)
        store = self._kernel.store
        async with aclosing(heads_of(self._kernel, task_id)) as heads:
            while (head := await next_head(self._kernel, heads)) is not None:
                while after < head.seq:
                    page = await store.read_log(log, after, PAGE)
                    if not page:
                        return
                    after = page[-1].seq
                    yield page

    @property
    def open(self) -> int:
        """How many readers there are."""
        return self._open

    def _enter(self, task_id: str) -> Live:
        live = self._live.get(task_id)
        if live is None or (live.over and not live.head.ended):  # one that broke off is looked at anew
            live = self._live[task_id] = Live(self._kernel, task_id, self._wakes, Pages(self.cache))
        live.readers += 1
        self._open += 1
        return live

    def _leave(self, task_id: str, live: Live) -> None:
        live.readers -= 1
        self._open -= 1
        if not live.readers:
            live.close()
            if self._live.get(task_id) is live:
                del self._live[task_id]


def beyond(after: int, head: Head) -> NotFound:
    """The error for a cursor that the stream has not reached."""
    return NotFound(
        f"Last-Event-ID {after} is not of this stream, which has {head.seq} entries so far; "
        "leave it out to read from the beginning"
    )
