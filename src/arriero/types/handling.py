"""What a kind of service is: a handler, and what the worker gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from arriero.types.link import Grant


@dataclass(slots=True)
class Handled:
    """What a handler made of an item: a JSON value, and what the session keeps for its next item (None: as it was)."""

    value: Any
    context: str | None = None


class HandlerContext(Protocol):
    """What a handler may use while it works on one item."""

    @property
    def grant(self) -> Grant: ...

    def emit(self, data: dict[str, Any], type: str = "", *, last: bool = False) -> None:  # the word that readers see
        """Append a JSON object to the task's stream, with the name of its event class. It never waits; order is kept.

        ``last`` says that the handler is about to return: the event then travels with the result.
        """


class Handler(Protocol):
    """A kind of service. Whatever it raises is the item's failure; it is cancelled when its item ends from outside."""

    async def handle(self, context: HandlerContext) -> Handled: ...
