"""Events for running tasks, in the documented form: JSON with the name of the event's class beside its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from arriero.types.errors import InvalidInput
from arriero.types.jsonvalue import encode_json
from arriero.types.tasks import EventDefinition

SentEvent = BaseModel | Mapping[str, Any] | EventDefinition


def definition_of(service_name: str, event: SentEvent) -> EventDefinition:
    """What is sent for an event: a workflow's event, the documented JSON object of one, or the definition itself.

    Errors: ``NotJSON`` when a field of the event does not fit, ``InvalidInput`` for what is no event.
    """
    if isinstance(event, EventDefinition):
        if event.service_id != service_name:
            raise InvalidInput(f"the event is for service {event.service_id!r}, not for {service_name!r}")
        return event
    if isinstance(event, BaseModel):
        shape = {"__is_pydantic": True, "value": event, "qualified_name": _name_of(type(event))}
    elif isinstance(event, Mapping):
        shape = dict(event)
    else:
        raise InvalidInput(
            f"an event is a workflow's event, its JSON object, or an EventDefinition, not a {type(event).__name__}"
        )
    return EventDefinition(service_id=service_name, event_obj_str=encode_json(shape, "the event").decode())


def _name_of(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__name__}"
