"""Pages of streams, in the form in which readers get them, kept for the readers that come to the same place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from arriero.state_stores.base import Entry

#: Bytes that a reader is given at once. An entry that is larger is a page of its own.
CHUNK = 16 * 1024
#: Bytes that are kept of one stream, and of all streams together.
MOST_OF_ONE = 2 * 1024 * 1024
MOST_OF_ALL = 32 * 1024 * 1024
#: About what a page takes besides its text.
BESIDES = 300

#: How an entry is written for readers; two readers with the same function share what it gave.
Form = Callable[[Entry], bytes]
#: A page's form, and the number of the entry that it follows.
Place = tuple[Form, int]


class Page(NamedTuple):
    """Entries as readers get them; ``last`` is the number of the last one."""

    last: int
    text: bytes


def cut(form: Form, entries: Sequence[Entry]) -> Iterator[Page]:
    """The entries on pages of at most ``CHUNK`` bytes, but for an entry that is larger by itself."""
    parts: list[bytes] = []
    size = last = 0
    for entry in entries:
        text = form(entry)
        if parts and size + len(text) > CHUNK:
            yield Page(last, b"".join(parts))
            parts, size = [], 0
        parts.append(text)
        size += len(text)
        last = entry.seq
    if parts:
        yield Page(last, b"".join(parts))


class Pages:
    """The pages of one stream that were used last."""

    def __init__(self, cache: PageCache) -> None:
        self._cache = cache
        self._pages: OrderedDict[Place, Page] = OrderedDict()
        self._closed = False
        self.size = 0

    def find(self, place: Place) -> Page | None:
        page = self._pages.get(place)
        if page is not None:
            self._pages.move_to_end(place)
        return page

    def keep(self, place: Place, page: Page) -> None:
        """Remember it, and forget what was not used for longest when that is too much."""
        if self._closed:
            return
        self._forget(place)
        self._pages[place] = page
        self.size += len(page.text) + BESIDES
        self._cache.grown(self, len(page.text) + BESIDES)
        while self.size > MOST_OF_ONE:
            self.forget_oldest()

    def forget_oldest(self) -> None:
        self._forget(next(iter(self._pages)))

    def close(self) -> None:
        """Nobody reads the stream any more."""
        self._closed = True
        while self._pages:
            self.forget_oldest()

    def _forget(self, place: Place) -> None:
        page = self._pages.pop(place, None)
        if page is not None:
            self.size -= len(page.text) + BESIDES
            self._cache.shrunk(self, len(page.text) + BESIDES)

    def __len__(self) -> int:
        return len(self._pages)


class PageCache:
    """What all streams keep together; it takes from the stream that was added to least recently."""

    def __init__(self, most: int = MOST_OF_ALL) -> None:
        self._most = most
        self._streams: OrderedDict[Pages, None] = OrderedDict()
        self.size = 0

    def grown(self, pages: Pages, by: int) -> None:
        self.size += by
        self._streams[pages] = None
        self._streams.move_to_end(pages)
        while self.size > self._most:
            next(iter(self._streams)).forget_oldest()

    def shrunk(self, pages: Pages, by: int) -> None:
        self.size -= by
        if not pages.size:
            self._streams.pop(pages, None)
