"""What a worker gives to a handler, kept in memory: services that are functions, and an inbox."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from arriero.runtime.keys import works_on
from arriero.services.handlers import WorkflowHandler
from arriero.types.errors import PayloadTooLarge, UnknownService
from arriero.types.handling import Handled
from arriero.types.ids import generate_id
from arriero.types.jsonvalue import encode_json
from arriero.types.link import Arrival, Event, Grant


class Died(BaseException):
    """The worker is no more, or has left the item."""


Service = Callable[..., Awaitable[Any]]


class Desk:
    """A :class:`~arriero.types.handling.HandlerContext` for one item."""

    def __init__(self, services: Mapping[str, Service] | None = None, **arguments: Any) -> None:
        self.grant = Grant(
            item_id=generate_id(),
            task_id="task",
            session_id="session",
            service="outer",
            token="token",
            epoch=1,
            attempt=1,
            input=encode_json(arguments, "the input").decode(),
        )
        self.services: dict[str, Service] = dict(services or {})
        self.events: list[Event] = []
        self.calls: list[tuple[str, dict[str, Any], str, bool]] = []
        self.under_way = 0
        self.largest = 1024 * 1024
        self._emitted = asyncio.Event()
        self.ended: list[str] = []
        self.idled: asyncio.Queue[list[str]] = asyncio.Queue()
        self._on_arrival: Callable[[Arrival], None] | None = None
        self._inbox: list[Arrival] = []
        self.entries: list[Any] = []
        self.durable: list[bool] = []
        self.left: list[tuple[list[str], float | None, str]] = []
        self.has_left = asyncio.Event()
        self.kept_events = 0
        self.dies_at: int | None = None
        self.shape = ""
        self.base = 0
        self.is_busy = 0
        self.keys: Counter[str] = Counter()
        self.doubts: asyncio.Event | None = None

    def doubt(self) -> Awaitable[object] | None:
        return None if self.doubts is None else self.doubts.wait()

    @property
    def seen(self) -> list[tuple[str, str]]:
        """The types of the events so far, each with its path."""
        return [(event.path, event.type) for event in self.events]

    def data(self, type: str) -> list[dict[str, Any]]:
        return [json.loads(bytes(event.data)) for event in self.events if event.type == type]

    async def asked(self, count: int) -> None:
        """Wait for so many questions."""
        while self.questions < count:
            self._emitted.clear()
            await self._emitted.wait()

    @property
    def questions(self) -> int:
        return sum(event.asks for event in self.events)

    async def handle(self, handler: WorkflowHandler) -> Handled:
        works_on(self)
        return await handler.handle(self)

    def send(self, type: str, /, **data: Any) -> None:
        """Send an event from outside."""
        self.send_data(type, data)

    def send_data(self, type: str, data: dict[str, Any]) -> None:
        arrival = Arrival(seq=len(self._inbox) + 1, type=type, data=msgspec.Raw(json.dumps(data).encode()))
        self._inbox.append(arrival)
        if self._on_arrival is not None:
            self._on_arrival(arrival)

    def emit(
        self, data: dict[str, Any], type: str = "", *, last: bool = False, path: str = "", asks: bool = False
    ) -> None:
        text = msgspec.Raw(encode_json(data, f"event {type}"))
        if not last and len(bytes(text)) > self.largest:
            raise PayloadTooLarge(f"event {type} is too large")
        self._emitted.set()
        self.events.append(Event(number=len(self.events), data=text, type=type, path=path, asks=asks, last=last))

    async def call(self, service: str, arguments: Mapping[str, Any], *, scope: str = "", patient: bool = True) -> Any:
        if service not in self.services:
            raise UnknownService(f"there is no service {service!r}")
        self.calls.append((service, dict(arguments), scope, patient))
        self.under_way += 1
        try:
            value = await self.services[service](**arguments)
            self.ended.append(service)
            return json.loads(encode_json(value, "the result"))
        finally:
            self.under_way -= 1

    def idempotency_key(self, name: str = "") -> str:
        self.keys[name] += 1
        return f"{self.grant.item_id} {name} {self.keys[name]}"

    async def record(self, entry: Any, shape: str = "", *, durable: bool = True, base: bool = False) -> None:
        if self.dies_at == len(self.entries):
            raise Died
        self.entries.append(json.loads(encode_json(entry, "an entry")))
        self.durable.append(durable)
        self.base = len(self.entries) - 1 if base else self.base
        self.shape = shape
        self.kept_events = len(self.events)

    async def leave(self, events: Sequence[str], *, wake_after: float | None = None, reason: str = "") -> None:
        self.left.append((list(events), wake_after, reason))
        self.kept_events = len(self.events)
        self.has_left.set()
        raise Died

    def again(self) -> "Desk":
        """The same item with its next worker: what was not written is gone."""
        other = Desk(self.services)
        journal = [msgspec.Raw(json.dumps(entry).encode()) for entry in self.entries[self.base :]]
        other.grant = msgspec.structs.replace(
            self.grant, epoch=self.grant.epoch + 1, journal=journal, shape=self.shape, inbox=list(self._inbox)
        )
        other.entries, other.shape, other._inbox = list(self.entries), self.shape, list(self._inbox)
        other.base = self.base
        other.events = self.events[: self.kept_events]
        other.kept_events = self.kept_events
        return other

    def listen(self, on_arrival: Callable[[Arrival], None]) -> None:
        self._on_arrival = on_arrival
        for arrival in list(self._inbox):
            on_arrival(arrival)

    def busy(self) -> None:
        self.is_busy += 1

    def idle(self, events: Sequence[str], unmatched: Sequence[str] = ()) -> None:
        self.unmatched = list(unmatched)
        self.idled.put_nowait(list(events))
