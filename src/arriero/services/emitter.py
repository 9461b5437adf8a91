"""Sending an item's stream events: the first at once, those that follow in frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from arriero.types.errors import ArrieroError, Fenced, StateConflict, Unavailable
from arriero.types.link import LARGEST_EVENT, SPLIT, ControlPlaneLink, Event, Grant, check_event

logger = logging.getLogger("arriero.services")

#: Seconds that events gather before they are sent together.
GATHER = 0.01
#: Seconds until events are sent again that were not taken.
PAUSE = 0.5


class Emitter:
    """The unsent events of one item. One frame is under way at a time, so that their order holds.

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

    def add(self, data: bytes, type_name: str, *, last: bool, path: str = "", asks: bool = False) -> None:
        """Queue an event; the ``last`` one goes with the report. Errors: ``PayloadTooLarge``, before it is queued."""
        if not last:
            check_event(type_name, len(data), self._largest)
        event = Event(number=self._count, data=msgspec.Raw(data), type=type_name, path=path, asks=asks, last=last)
        self._unsent.append(event)
        self._count += 1
        if not last and self._timer is None and self._sending is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + GATHER), self._flush)

    async def take(self) -> list[Event]:
        """The events that were not sent, for whoever sends something else now; sending goes on behind them."""
        self._cancel_timer()
        if self._sending is not None:
            await self._sending
        self._cancel_timer()
        while len(first := self._first_frame()) < len(self._unsent):
            del self._unsent[: len(first)]
            if not await self._sent(first):
                await asyncio.sleep(PAUSE)  # the control plane cannot take them now and does not say when it can
        unsent, self._unsent = self._unsent, []
        return unsent

    async def rest(self) -> list[Event]:
        """Stop sending; gives the events that were not sent, no more of them than fit beside a result."""
        self._last = float("inf")
        return await self.take()

    def drop(self) -> None:
        """The item ended elsewhere: nothing more is sent."""
        self._unsent.clear()
        self._cancel_timer()
        if self._sending is not None:
            self._sending.cancel()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _first_frame(self) -> list[Event]:
        """The oldest unsent events, at least one and as many as fit into a frame."""
        size = 0
        for number, event in enumerate(self._unsent):
            size += memoryview(event.data).nbytes
            if size > SPLIT and number:
                return self._unsent[:number]
        return list(self._unsent)

    def _flush(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        events = self._first_frame()
        del self._unsent[: len(events)]
        self._sending = loop.create_task(self._send(events))

    async def _send(self, events: list[Event]) -> None:
        try:
            if not await self._sent(events):
                self._last = max(self._last, asyncio.get_running_loop().time() + PAUSE)
        finally:
            self._sending = None
        if self._unsent and self._last != float("inf"):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._last + GATHER, self._flush)

    async def _sent(self, events: list[Event]) -> bool:
        """Send a frame; one that cannot be taken now is unsent again."""
        try:
            await self._link.emit(self._grant.item_id, self._grant.token, events)
        except Fenced:
            self._on_fenced()
        except (Unavailable, StateConflict):
            self._unsent[:0] = events
            return False
        except ArrieroError as error:
            logger.error("%d events of item %s were refused: %s", len(events), self._grant.item_id, error)  # noqa: TRY400  # what it says is all there is
        return True
