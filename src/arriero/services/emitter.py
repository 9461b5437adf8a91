"""Sending an item's stream events: the first at once, those that follow in frames."""

from __future__ import annotations

import asyncio

import msgspec

from arriero.types.errors import ArrieroError, Fenced
from arriero.types.link import ControlPlaneLink, Event, Grant

#: Seconds that events gather before they are sent together.
GATHER = 0.02
#: Seconds until events are sent again that were not taken.
PAUSE = 0.5


class Emitter:
    """The unsent events of one item. One frame is under way at a time, so that their order holds."""

    def __init__(self, link: ControlPlaneLink, grant: Grant) -> None:
        self._link = link
        self._grant = grant
        self._unsent: list[Event] = []
        self._count = 0
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    def add(self, data: bytes, type_name: str, *, last: bool) -> None:
        """Queue an event; the ``last`` one goes with the report."""
        self._unsent.append(Event(number=self._count, data=msgspec.Raw(data), type=type_name))
        self._count += 1
        if not last and self._timer is None and self._sending is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + GATHER), self._flush)

    async def rest(self) -> list[Event]:
        """Stop sending; gives the events that were not sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = float("inf")
        if self._sending is not None:
            await self._sending
        unsent, self._unsent = self._unsent, []
        return unsent

    def drop(self) -> None:
        """The item ended elsewhere: nothing more is sent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()

    def _flush(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        events, self._unsent = self._unsent, []
        self._sending = loop.create_task(self._send(events))

    async def _send(self, events: list[Event]) -> None:
        try:
            await self._link.emit(self._grant.item_id, self._grant.token, events)
        except Fenced:
            return
        except ArrieroError:
            self._unsent[:0] = events
            self._last = max(self._last, asyncio.get_running_loop().time() + PAUSE)
        finally:
            self._sending = None
        if self._unsent and self._last != float("inf"):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._last + GATHER, self._flush)
