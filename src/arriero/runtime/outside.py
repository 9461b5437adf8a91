"""Events from outside: which a workflow takes, and how they become instances of the classes that it declares.

These are the events that its steps take (not the start event, nor what the engine itself sends), those that it names
in its signatures otherwise, the classes that its code names (as in `wait_for_event(Approval)`), those allowed by the
serializer given to it, and :class:`HumanResponseEvent`. What is waited for in code elsewhere is allowed by the
serializer: ``MyFlow(serializer=JsonSerializer(allowed_types=[Approval]))``. Nothing is imported because its name came
in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from pydantic import ValidationError
from workflows import Workflow
from workflows.events import (
    CollectionReleaseEvent,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    InternalDispatchEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)

from arriero.types.errors import InvalidInput
from arriero.types.link import Arrival

#: What begins and ends a run, what goes out of it, and what the engine tells its own steps.
_NOT_TAKEN = (
    CollectionReleaseEvent,
    InputRequiredEvent,
    InternalDispatchEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Held:
    """An event from outside, until something takes it."""

    __slots__ = ("answers", "arrival", "is_shown", "tried")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        #: Whether it was given to a run as the answer to something that this asked.
        self.answers = False
        #: Whether the readers of the stream were told that nothing took it.
        self.is_shown = False
        #: The runs that did not take it when it was last offered.
        self.tried: list[object] = []


class Accepted:
    """The events that workflows take from outside.

    ``classes`` has each by its names: with its module, qualified and not, and alone where that says which one it is.
    ``names`` tells of every name whether it is that of an answer. ``ask_first``: a step gives a question, so that an
    answer which comes before is for that one.
    """

    def __init__(self, types: Iterable[type[Any]], *, ask_first: bool = False) -> None:
        self.ask_first = ask_first
        given: dict[type[Any], None] = dict.fromkeys([HumanResponseEvent, *types])
        taken = [cls for cls in given if _is_taken(cls)]
        self.classes: dict[str, type[Event]] = {}
        # A name in full is the class's own, even where it is a shorter form of another's.
        for form in (_full, lambda cls: f"{cls.__module__}.{cls.__name__}", lambda cls: cls.__name__):
            self.classes = _of_one(taken, form) | self.classes
        self.names = {name: issubclass(cls, HumanResponseEvent) for name, cls in self.classes.items()}

    def shown(self, *, only_answers: bool) -> list[str]:
        """One name of each event, for people."""
        found: dict[type[Event], str] = {}
        for name, cls in self.classes.items():
            if not only_answers or self.names[name]:
                found[cls] = min(found.get(cls, name), name, key=len)
        return sorted(found.values())

    def event(self, arrival: Arrival) -> Event:
        """The event that came, as an instance of its class; :class:`InvalidInput` if it does not fit."""
        cls = self.classes[arrival.type]
        try:
            fields = _decode(arrival.data)
            # The form in which events are written has the fields that no class declares in an object of their own.
            inner = fields.pop("_data", {})
            fields = {**inner, **fields}
            own = sorted({"self", *cls.__private_attributes__} & fields.keys())
            if own:
                raise InvalidInput(f"the event {arrival.type!r} has fields of these names: {', '.join(own)}")
            return cls(**fields)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            said = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'as a whole'}: {each['msg']}" for each in problems)
            raise InvalidInput(f"the event does not fit {cls.__name__}: {said}") from None
        except (TypeError, msgspec.MsgspecError) as error:
            raise InvalidInput(f"the event {arrival.type!r} cannot be read: {error}") from None


def types_from_outside(workflow: Workflow, declared: Iterable[type[Any]]) -> list[type[Any]]:
    """The classes that one workflow takes; ``declared`` are those that its serializer allows."""
    # The engine keeps these in a set, whose order is not that of the program.
    return [*sorted(workflow.events, key=_full), *declared]


def _of_one(types: Iterable[type[Event]], form: Callable[[type[Event]], str]) -> dict[str, type[Event]]:
    """The classes by names of this form, without those that two of them have."""
    found: dict[str, set[type[Event]]] = {}
    for cls in types:
        found.setdefault(form(cls), set()).add(cls)
    return {name: next(iter(classes)) for name, classes in found.items() if len(classes) == 1}


def _is_taken(cls: type[Any]) -> bool:
    return issubclass(cls, Event) and cls is not Event and not issubclass(cls, _NOT_TAKEN)


def _full(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
