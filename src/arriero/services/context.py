"""One item in work, and what its handler may do meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from arriero.runtime.keys import count, key_of
from arriero.services.emitter import Emitter
from arriero.services.slots import Slots
from arriero.types.errors import TASK_ERRORS, Fenced, PayloadTooLarge, StateConflict, TaskError, Unavailable
from arriero.types.jsonvalue import encode_json
from arriero.types.link import LARGEST_VALUE, Arrival, Call, ControlPlaneLink, Event, Grant, Journal, Outcome, Wait
from arriero.types.tasks import TaskStatus

T = TypeVar("T")

#: Seconds between tries while the control plane cannot take something.
PAUSE = 0.5


class Run:
    """One item in work. ``holds`` says that it has one of the worker's slots."""

    __slots__ = (
        "arrived",
        "calls",
        "doubt",
        "emitter",
        "entries",
        "failure",
        "grant",
        "holds",
        "idle",
        "lease",
        "on_arrival",
        "seen",
        "slots",
        "stopped",
        "task",
        "waking",
    )

    def __init__(self, grant: Grant, emitter: Emitter, slots: Slots) -> None:
        self.grant = grant
        self.emitter = emitter
        self.slots = slots
        self.failure: BaseException | None = None
        self.stopped = False
        self.task: asyncio.Task[None] | None = None
        self.holds = True
        self.calls = 0
        self.idle = False
        self.on_arrival: Callable[[Arrival], None] | None = None
        self.arrived: list[Arrival] = list(grant.inbox)
        self.seen = grant.inbox[-1].seq if grant.inbox else 0
        self.waking = False
        self.lease = math.inf
        self.doubt: Callable[[], Awaitable[object] | None] = _none
        self.entries = grant.skipped + len(grant.journal)

    def let_go(self) -> bool:
        """Give the slot up, if it has one; gives whether it had."""
        held, self.holds = self.holds, False
        if held:
            self.slots.give_back()
        return held

    async def regain(self) -> None:
        """Have a slot again."""
        if not self.holds:
            await self.slots.regain()
            if self.stopped:
                self.slots.give_back()
            else:
                self.holds = True

    def take(self, arrivals: Sequence[Arrival]) -> None:
        """Events have come; those that came before are known by their number."""
        new = [arrival for arrival in arrivals if arrival.seq > self.seen]
        if new:
            self.seen = new[-1].seq
            self.arrived += new

    def deliver(self) -> None:
        """Tell the handler of the events that have come, if it listens."""
        if self.on_arrival is not None:
            arrived, self.arrived = self.arrived, []
            for arrival in arrived:
                self.on_arrival(arrival)


def _none() -> None:
    """There is no doubt."""


class ItemContext:
    """What a handler gets: see :class:`~arriero.types.handling.HandlerContext`.

    ``start`` runs something beside the handler, ``on_free`` is told when a slot has become free, ``on_fenced`` when the
    item turns out to be somebody else's, ``on_left`` when it was given up until an event comes.
    """

    __slots__ = (
        "__weakref__",
        "_counts",
        "_keys",
        "_link",
        "_on_fenced",
        "_on_free",
        "_on_left",
        "_run",
        "_start",
        "grant",
    )

    def __init__(
        self,
        run: Run,
        link: ControlPlaneLink,
        start: Callable[[Coroutine[Any, Any, Any]], object],
        on_free: Callable[[], None],
        on_fenced: Callable[[], None],
        on_left: Callable[[], None],
    ) -> None:
        self.grant = run.grant
        self._run = run
        self._link = link
        self._start = start
        self._on_free = on_free
        self._on_fenced = on_fenced
        self._on_left = on_left
        self._counts: Counter[str] | None = None
        self._keys: dict[str, int] | None = None

    @property
    def doubt(self) -> Callable[[], Awaitable[object] | None]:
        return self._run.doubt

    def emit(
        self, data: dict[str, Any], type: str = "", *, last: bool = False, path: str = "", asks: bool = False
    ) -> None:
        text = bounded(encode_json(data, f"event {type}"), f"event {type}")
        self._run.emitter.add(text, type, last=last, path=path, asks=asks)

    async def call(self, service: str, arguments: Mapping[str, Any], *, scope: str = "", patient: bool = True) -> Any:
        text = encode_json(dict(arguments), f"the input for service {service!r}").decode()
        call = Call(
            request=0,
            item_id=self.grant.item_id,
            token=self.grant.token,
            key=self._key(service, text, scope),
            service=service,
            input=text,
            patient=patient,
        )
        return _value(service, await self._away(call))

    def idempotency_key(self, name: str = "") -> str:
        if self._keys is None:
            self._keys = {}
        return key_of(self.grant.item_id, name, count(self._keys, name))

    async def record(self, entry: Any, shape: str = "", *, durable: bool = True, base: bool = False) -> None:
        run, grant = self._run, self.grant
        raw = msgspec.Raw(bounded(encode_json(entry, "an entry of the journal"), "an entry of the journal"))

        async def write(events: list[Event]) -> None:
            frame = Journal(
                request=0,
                item_id=grant.item_id,
                token=grant.token,
                number=run.entries,
                entry=raw,
                shape=shape,
                events=events,
                durable=durable,
                base=base,
            )
            await self._surely(lambda: self._link.journal(frame))
            run.entries += 1

        await run.emitter.along(write)

    async def leave(self, events: Sequence[str], *, wake_after: float | None = None, reason: str = "") -> None:
        run, grant = self._run, self.grant
        if run.stopped or run.calls or (run.arrived and not reason):  # an event is nothing to who cannot go on
            return
        frame = Wait(
            request=0,
            item_id=grant.item_id,
            token=grant.token,
            events=list(events),
            seen=run.seen,
            leave=True,
            wake_after=wake_after,
            reason=reason,
        )
        await run.emitter.send()
        if await self._whatever_happens(lambda: self._link.wait(frame)):
            self._on_left()
            raise asyncio.CancelledError

    def listen(self, on_arrival: Callable[[Arrival], None]) -> None:
        self._run.on_arrival = on_arrival
        self._run.deliver()

    def idle(self, events: Sequence[str], unmatched: Sequence[str] = ()) -> None:
        run = self._run
        if run.idle or run.stopped or run.arrived or run.calls:
            return
        run.idle = True
        if run.let_go():
            self._on_free()
        self._start(
            self._say(
                Wait(
                    request=0,
                    item_id=run.grant.item_id,
                    token=run.grant.token,
                    events=list(events),
                    unmatched=list(unmatched),
                )
            )
        )

    def busy(self) -> None:
        run = self._run
        if not run.idle or run.waking or run.stopped:
            return
        run.idle = False
        if not run.holds and not run.calls:
            run.slots.seize()
            run.holds = True
        self._start(self._say(Wait(request=0, item_id=run.grant.item_id, token=run.grant.token, over=True)))

    async def _say(self, wait: Wait) -> None:
        """Tell whether the item waits, as long as it does so."""
        run = self._run
        while run.idle is not wait.over and not run.stopped:
            wait.seen = run.seen
            try:
                await self._link.wait(wait)
            except Fenced:
                self._on_fenced()
            except (Unavailable, StateConflict):
                await asyncio.sleep(PAUSE)  # the control plane does not say when it can take it
                continue
            return

    def _key(self, service: str, text: str, scope: str) -> str:
        """The n-th call of the same in the same scope is the same call, also when the item runs again."""
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        name = f"{scope}/{service}/{digest}"
        if self._counts is None:
            self._counts = Counter()
        self._counts[name] += 1
        return f"{name}/{self._counts[name]}"

    async def _away(self, call: Call) -> Outcome:
        """Have it done, holding no slot. The last of several calls to return has one again before it does."""
        run = self._run
        run.calls += 1
        if run.let_go():
            self._on_free()
        try:
            outcome = await self._called(call)
        except asyncio.CancelledError:
            run.calls -= 1
            if not run.calls and not run.holds and not run.stopped:
                run.slots.seize()
                run.holds = True
            raise
        except BaseException:
            await self._back()
            raise
        await self._back()
        return outcome

    async def _back(self) -> None:
        self._run.calls -= 1
        if not self._run.calls:
            await self._run.regain()

    async def _called(self, call: Call) -> Outcome:
        return await self._whatever_happens(lambda: self._link.call(call))

    async def _surely(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask again what was answered too late: the item may be another's meanwhile, and what follows done there."""
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await self._whatever_happens(ask)
            if loop.time() - asked < self._run.lease / 2:
                return

    async def _whatever_happens(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, however long the control plane cannot take the question."""
        while True:
            try:
                return await ask()
            except Fenced:
                self._on_fenced()
                raise
            except (Unavailable, StateConflict):
                await asyncio.sleep(PAUSE)  # the control plane does not say when it can take it


def _value(service: str, outcome: Outcome) -> Any:
    if outcome.status is TaskStatus.COMPLETED:
        return msgspec.json.decode(outcome.value)
    error = outcome.error
    said = f"{error.type}: {error.message}" if error is not None else outcome.status.value
    raise TASK_ERRORS.get(outcome.status, TaskError)(f"service {service!r} did not succeed: {said}", error=error)


def bounded(text: bytes, what: str) -> bytes:
    """The JSON text itself, unless it is too large to be reported."""
    if len(text) > LARGEST_VALUE:
        size = len(text)
        raise PayloadTooLarge(f"{what} has {size} bytes; the limit is {LARGEST_VALUE}", size=size, limit=LARGEST_VALUE)
    return text
