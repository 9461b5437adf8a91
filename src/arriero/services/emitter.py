"""Sending an item's stream events: the first at once, those that follow in frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from arriero.types.errors import ArrieroError, Fenced, StateConflict, Unavailable
from arriero.types.link import LARGEST_EVENT, SPLIT, ControlPlaneLink, Event, Grant, check_event

T = TypeVar("T")

logger = logging.getLogger("arriero.services")

#: Seconds that events gather before they are sent together.
GATHER = 0.01
#: Seconds until events are sent again that were not taken.
PAUSE = 0.5


class Emitter:
    """The unsent events of one item. One frame with events is under way at a time, so that their order holds.

    What was sent and not answered is sent again, before anything else and by itself: it may have been taken.
    ``on_fenced`` is called when the item turns out to be somebody else's. ``largest`` is the most bytes of an event.
    """

    def __init__(
        self, link: ControlPlaneLink, grant: Grant, on_fenced: Callable[[], None], largest: int = LARGEST_EVENT
    ) -> None:
        self._link = link
        self._grant = grant
        self._on_fenced = on_fenced
        self._largest = largest
        self._unsent: list[Event] = []
        self._count = 0
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._is_doubtful = False

    def add(self, data: bytes, type_name: str, *, last: bool, path: str = "", asks: bool = False) -> None:
        """Queue an event; the ``last`` one goes with the report. Errors: ``PayloadTooLarge``, before it is queued."""
        if not last:
            check_event(type_name, len(data), self._largest)
        event = Event(number=self._count, data=msgspec.Raw(data), type=type_name, path=path, asks=asks, last=last)
        self._unsent.append(event)
        self._count += 1
        if not last and not self._turn.locked():  # else it is sent behind what is under way
            self._arm()

    async def along(self, send: Callable[[list[Event]], Awaitable[T]]) -> T:
        """Have the unsent events go with something else, and nothing beside it.

        When ``send`` is cancelled or raises, they are unsent again.
        """
        async with self._turn:
            try:
                await self._send_ahead()
                events, self._unsent = self._unsent, []
                try:
                    answer = await send(events)
                except BaseException:
                    self._take_back(events)
                    raise
                self._is_doubtful = False
                return answer
            finally:
                self._arm()

    async def send(self) -> None:
        """Send what there is."""
        async with self._turn:
            try:
                self._cancel_timer()
                while self._unsent:
                    await self._send_surely(self._first_frame())
            finally:
                self._arm()

    async def rest(self) -> list[Event]:
        """Stop sending; gives the events that were not sent, no more of them than fit beside a result."""
        self._last = float("inf")
        async with self._turn:
            await self._send_ahead()
            unsent, self._unsent = self._unsent, []
            return unsent

    def drop(self) -> None:
        """The item ended elsewhere: nothing more is sent."""
        self._last = float("inf")
        self._unsent.clear()
        self._cancel_timer()
        if self._sending is not None:
            self._sending.cancel()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Have what is unsent sent soon."""
        if self._unsent and self._timer is None and self._last != float("inf"):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + GATHER), self._flush)

    def _first_frame(self) -> list[Event]:
        """The oldest unsent events, at least one and as many as fit into a frame."""
        size = 0
        for number, event in enumerate(self._unsent):
            size += memoryview(event.data).nbytes
            if size > SPLIT and number:
                return self._unsent[:number]
        return list(self._unsent)

    async def _send_ahead(self) -> None:
        """Send what does not fit beside something else; in doubt all, but for the last, which goes with the report."""
        self._cancel_timer()
        while len(first := self._first_frame()) < len(self._unsent) or self._is_doubtful:
            if len(first) == len(self._unsent) and first and first[-1].last:
                first.pop()
            if not first:
                return
            await self._send_surely(first)

    async def _send_surely(self, events: list[Event]) -> None:
        if not await self._sent(events):
            await asyncio.sleep(PAUSE)  # the control plane cannot take them now and does not say when it can

    def _flush(self) -> None:
        self._timer = None
        if self._sending is None and not self._turn.locked():  # else what is under way sets the timer when it ends
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        try:
            async with self._turn:
                self._last = max(self._last, asyncio.get_running_loop().time())
                if self._unsent and not await self._sent(self._first_frame()):
                    self._last = max(self._last, asyncio.get_running_loop().time() + PAUSE)
        finally:
            self._sending = None
        self._arm()

    async def _sent(self, events: list[Event]) -> bool:
        """Send the oldest of the unsent; whether they were taken, or are nobody's any more."""
        del self._unsent[: len(events)]
        try:
            await self._link.emit(self._grant.item_id, self._grant.token, events)
        except Fenced:
            self._on_fenced()
        except (Unavailable, StateConflict):
            self._unsent[:0] = events
            return False
        except ArrieroError as error:
            logger.error("%d events of item %s were refused: %s", len(events), self._grant.item_id, error)  # noqa: TRY400  # what it says is all there is
        except BaseException:
            self._take_back(events)
            raise
        return True

    def _take_back(self, events: list[Event]) -> None:
        """They were sent with something, and it is not known whether that was taken."""
        self._unsent[:0] = events
        self._is_doubtful = True
