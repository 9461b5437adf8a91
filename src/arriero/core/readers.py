"""Streams that are being read, and their readers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from arriero.core import names
from arriero.core.heads import NOTHING, heads_of, next_head
from arriero.core.kernel import Kernel
from arriero.core.pages import CHUNK, Form, Page, Pages, Place, cut
from arriero.core.wakes import Crowd, Wakes
from arriero.types.errors import ArrieroError

logger = logging.getLogger("arriero.core")

#: Entries that are read from the store at once: at first, and at most; and bytes that this should come to.
FIRST_READ = 16
LONGEST_READ = 200
READ_AHEAD = 8 * CHUNK


class Live:
    """A stream with readers: one watch of how far it has come, and pages that are made once for all of them."""

    def __init__(self, kernel: Kernel, task_id: str, wakes: Wakes, pages: Pages) -> None:
        self.head = NOTHING
        self.over = False
        self.readers = 0
        self.pages = pages
        self._kernel = kernel
        self._task_id = task_id
        self._wakes = wakes
        self._behind = Crowd()
        self._waiting = Crowd(self._rest)
        self._resting: asyncio.TimerHandle | None = None
        self._untold = False
        self._parked: dict[Reader, asyncio.Future[None]] = {}
        self._reads: dict[Place, asyncio.Task[Page | None]] = {}
        self._read_at_once = FIRST_READ
        self._opened = asyncio.Event()
        self._failure: ArrieroError | None = None
        self._watch = kernel.background.start(self._follow(), f"stream of {task_id}")

    async def opened(self) -> None:
        """Wait until it is known how far the stream has come."""
        await self._opened.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """The last reader has left."""
        self._watch.cancel()
        del self._watch  # nothing holds what was read once its readers are gone
        self._waiting.on_empty = None
        self.pages.close()
        if self._resting is not None:
            self._resting.cancel()

    def turn(self, reader: Reader) -> asyncio.Future[None]:
        """Done when the reader may look for more: soon if there is more, else when there is news."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.over or reader.after < self.head.seq:
            self._wakes.add(self._behind, [waiter])
        else:
            self._parked[reader] = waiter
        return waiter

    def rouse(self, reader: Reader) -> None:
        """Let the reader look, although there is no news."""
        waiter = self._parked.pop(reader, None)
        if waiter is not None:
            self._wakes.add(self._behind, [waiter])

    async def page(self, form: Form, after: int) -> Page | None:
        """The page that follows that entry; None if there is nothing any more. Whoever asks meanwhile gets the same."""
        place = (form, after)
        page = self.pages.find(place)
        if page is not None:
            return page
        read = self._reads.get(place)
        if read is None:
            read = self._kernel.background.start(self._read(form, after), f"page of {self._task_id}")
            self._reads[place] = read
            read.add_done_callback(lambda _: self._reads.pop(place))
        return await asyncio.shield(read)

    async def _read(self, form: Form, after: int) -> Page | None:
        log = names.stream_log(self._task_id)
        entries = await self._kernel.store.read_log(log, after, self._read_at_once)
        if not entries:
            return None
        mean = sum(len(entry.value) for entry in entries) // len(entries)
        self._read_at_once = max(1, min(LONGEST_READ, READ_AHEAD // (mean + 1)))
        first: Page | None = None
        for page in cut(form, entries):
            self.pages.keep((form, after), page)
            first = first or page
            after = page.last
        return first

    async def _follow(self) -> None:
        try:
            async with aclosing(heads_of(self._kernel, self._task_id)) as heads:
                while (head := await next_head(self._kernel, heads)) is not None:
                    self.head = head
                    self._opened.set()
                    self._news()
        except ArrieroError as error:
            logger.info("the stream of task %s breaks off: %s", self._task_id, error)
            self._failure = error
        finally:
            self.over = True
            self._opened.set()
            self._news()

    def _news(self) -> None:
        """Wake those who wait; after a crowd that took long to wake, when it has rested. The end is told at once."""
        if not self.over and (self._waiting.lined_up or self._resting is not None):
            self._untold = True
            return
        self._untold = False
        parked, self._parked = self._parked, {}
        self._wakes.add(self._waiting, parked.values())

    def _rest(self, seconds: float) -> None:
        if seconds and self.readers:
            self._resting = asyncio.get_running_loop().call_later(seconds, self._rested)
        else:
            self._rested()

    def _rested(self) -> None:
        self._resting = None
        if self._untold:
            self._news()


class Reader:
    """One who reads a stream: a cursor, and nothing more while there is nothing to read or no room to write it.

    ``silence`` is after how many seconds without news :meth:`next` says so; None: never.
    """

    def __init__(self, live: Live, form: Form, after: int, silence: float | None, on_close: Callable[[], None]) -> None:
        self.after = after
        self._live = live
        self._form = form
        self._silence = silence
        self._on_close = on_close
        self._offset = 0
        self._silent = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = None if silence is None else self._loop.call_later(silence, self._tick)

    @property
    def at_end(self) -> bool:
        """Whether the stream has ended and everything was given."""
        return self._live.head.ended and self.after >= self._live.head.seq

    async def next(self) -> bytes | None:
        """What follows, as much as is there up to a limit; nothing after a silence; None at the end."""
        while not self._closed:
            await self._live.turn(self)
            text = await self._look()
            if text is None or text or self._silent:
                self._silent = False
                self._last = self._loop.time()
                return text
        return None

    def close(self) -> None:
        """Leave; a call of :meth:`next` that waits gives None. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._live.rouse(self)
        self._on_close()

    async def _look(self) -> bytes | None:
        if self._closed:
            return None
        if self.after < self._live.head.seq:
            return await self._take()
        return None if self._live.over else b""

    async def _take(self) -> bytes | None:
        page = await self._live.page(self._form, self.after)
        if page is None:
            return None
        if len(page.text) > CHUNK:
            return self._slice(page)
        texts, size, self.after = [page.text], len(page.text), page.last
        while (more := self._live.pages.find((self._form, self.after))) and size + len(more.text) <= CHUNK:
            texts.append(more.text)
            size += len(more.text)
            self.after = more.last
        return b"".join(texts)

    def _slice(self, page: Page) -> bytes:
        """The next part of a large entry, which is a page of its own whenever it is read."""
        start, self._offset = self._offset, self._offset + CHUNK
        if self._offset >= len(page.text):
            self._offset, self.after = 0, page.last
        return page.text[start : start + CHUNK]

    def _tick(self) -> None:
        assert self._silence is not None  # it has a timer
        now = self._loop.time()
        left = self._last + self._silence - now
        if left <= 0:
            self._silent, left = True, self._silence
            self._live.rouse(self)
        self._timer = self._loop.call_later(left, self._tick)
