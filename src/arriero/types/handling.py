"""What a kind of service is: a handler, and what the worker gives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from arriero.types.link import Arrival, Grant


@dataclass(slots=True)
class Handled:
    """What a handler made of an item: a JSON value, and what the session keeps for its next item (None: as it was).

    ``step`` names the step that ended it, where there are steps, which took so many seconds.
    """

    value: Any
    context: str | None = None
    step: str = ""
    took: float | None = None


class HandlerContext(Protocol):
    """What a handler may use while it works on one item."""

    @property
    def grant(self) -> Grant: ...

    @property
    def doubt(self) -> Callable[[], Awaitable[object] | None]:
        """Gives what to wait for before anything with an effect is begun: this process stood still for so long that
        the item may be another's, which cancels the handler. None, as a rule.
        """

    def emit(
        self,
        data: dict[str, Any],
        type: str = "",  # the word that readers see
        *,
        last: bool = False,
        path: str = "",
        asks: bool = False,
    ) -> None:
        """Append a JSON object to the task's stream, with the name of its event class. It never waits; order is kept.

        ``last`` says that the handler is about to return: the event then travels with the result, and may be as large.
        Any other is refused beyond the control plane's ``max_event``: ``PayloadTooLarge``. ``path`` names where below
        this item it arose (services joined by slashes), ``asks`` says that it asks for an answer from outside.
        """

    async def call(self, service: str, arguments: Mapping[str, Any], *, scope: str = "", patient: bool = True) -> Any:
        """Have a service do something as a child of this item; gives its result as a JSON value.

        ``scope`` names the piece of work that calls (for a workflow: the step's work item), the same after a resume:
        the n-th call of one scope to one service with one input is the same child, and is not started twice.
        While it waits the item holds no slot. ``patient`` is to be false where there is another way to do it.

        Errors: ``UnknownService`` before anything is started; ``TooDeep``; ``NotJSON`` for the arguments;
        ``TaskFailed``, ``TaskCancelled``, ``TaskTimedOut`` or ``TaskDead`` as the child ended.
        """

    async def record(self, entry: Any, shape: str = "", *, durable: bool = True, base: bool = False) -> None:
        """Keep a JSON value in the item's journal, with the events that were emitted before.

        When this returns it outlives a crash; a ``durable`` one a power cut too, the others with the next that is.
        After a ``base``, which says all, the entries before it are not read any more. ``grant.journal`` holds those
        of earlier runs. Errors: ``NotJSON``, ``PayloadTooLarge``, ``Fenced`` when the item is another's.

        When it is cancelled or raises, the entry may be there or not. It is to be recorded again before any other,
        which would else be taken for it; this is safe. The events stay to be sent.
        """

    def idempotency_key(self, name: str = "") -> str:
        """A key for an effect outside, the same whenever this item is worked on; at most 64 characters.

        The n-th key of one name is another than the n-th of another, and than the one before it. What led to the
        effect is to be recorded before, where the handler keeps a journal.
        """

    def listen(self, on_arrival: Callable[[Arrival], None]) -> None:
        """Be told of the events that come from outside: those that have come, at once, and then each as it comes."""

    def idle(self, events: Sequence[str], unmatched: Sequence[str] = ()) -> None:
        """There is nothing to do until an event of these names comes. It never waits.

        The item holds no slot until the next arrival; readers of its status see what it waits for, and the events that
        came and that nothing takes.
        """

    def busy(self) -> None:
        """There is something to do again, though no event has come."""

    async def leave(self, events: Sequence[str], *, wake_after: float | None = None, reason: str = "") -> None:
        """As :meth:`idle`, for an item whose journal says all: it is given up, and claimed again when an event comes.

        It comes back after ``wake_after`` seconds at the latest. The handler is cancelled when it has been given up;
        this returns if an event has come meanwhile.
        """


class Handler(Protocol):
    """A kind of service. Whatever it raises is the item's failure; it is cancelled when its item ends from outside.

    ``accepts`` lists the events that it takes from outside, by every name, with whether it is an answer. One that keeps
    journals has a ``shape``, too, by which it is known that it can read those of another.
    """

    @property
    def accepts(self) -> dict[str, bool]: ...

    async def handle(self, context: HandlerContext) -> Handled: ...
