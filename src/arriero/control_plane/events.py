"""Events from outside, out of the documented form in which they are sent."""

from __future__ import annotations

from typing import Any

import msgspec

from arriero.control_plane.bodies import parse
from arriero.core.inbox import Sent
from arriero.types.errors import InvalidInput
from arriero.types.jsonvalue import MAX_DEPTH, is_deep


class _Definition(msgspec.Struct):
    event_obj_str: str
    service_id: str | None = None
    agent_id: str | None = None


class _Event(msgspec.Struct):
    qualified_name: str
    value: dict[str, Any] = {}


_definition = msgspec.json.Decoder(_Definition)
_event = msgspec.json.Decoder(_Event)


def sent_event(body: bytes, key: str | None) -> Sent:
    """The event in a documented ``EventDefinition``. Its class is a name to look up, and is never imported."""
    definition = parse(body, _definition, "the event definition")
    service = definition.service_id or definition.agent_id
    if not service:
        raise InvalidInput("the event definition names no service; set service_id (or agent_id)")
    text = definition.event_obj_str
    event = parse(
        text.encode("utf-8", "replace"), _event, "event_obj_str, a JSON object with qualified_name and value,"
    )
    if is_deep(event.value, text):
        raise InvalidInput(f"the event lies more than {MAX_DEPTH} levels deep, which is the limit", limit=MAX_DEPTH)
    return Sent(service, event.qualified_name, msgspec.Raw(msgspec.json.encode(event.value)), text, key)
