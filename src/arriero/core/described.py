"""The shapes of tasks and of messages, for those who describe what takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arriero.core.limits import LARGEST_HEADERS, MOST_HEADERS
from arriero.core.tasks import LONGEST, Submission
from arriero.types.described import shapes_of
from arriero.types.messages import ActionTypes
from arriero.types.names import NAME

TEXT = {"type": "string"}
SOME = {"type": "string", "minLength": 1}
_ID = {"anyOf": [NAME, {"type": "null"}]}


def submission() -> dict[str, Any]:
    """The shape of a task that is submitted."""
    shape: dict[str, Any] = shapes_of(Submission)["Submission"]
    either = {"anyOf": [SOME, {"type": "null"}]}
    shape["properties"] |= {
        "task_id": {**_ID, "description": "The id that it is to have; by default one is made."},
        "session_id": {"anyOf": [TEXT, {"type": "null"}], "description": "That of the path, when it is given."},
        "service_id": {**either, "description": "The service that is to do it."},
        "agent_id": {**either, "description": "The same under its older name; it must not name another service."},
        "deadline": {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": LONGEST}, {"type": "null"}],
            "description": "Seconds from acceptance.",
        },
        "headers": {
            "type": "object",
            "additionalProperties": TEXT,
            "description": f"At most {MOST_HEADERS}, of {LARGEST_HEADERS} characters in all.",
        },
    }
    shape["anyOf"] = [
        {"required": ["service_id"], "properties": {"service_id": SOME}},
        {"required": ["agent_id"], "properties": {"agent_id": SOME}},
    ]
    return shape


def task_message() -> dict[str, Any]:
    """The same as the data of a message."""
    shape = submission()
    shape["properties"]["task_id"] = NAME
    return shape


def message(asked: Mapping[ActionTypes, dict[str, Any]]) -> dict[str, Any]:
    """The shape of a message, by what it may ask for and the data of each."""
    shapes = [{"properties": {"action": {"const": action.value}, "data": data}} for action, data in asked.items()]
    return {"allOf": [{"$ref": "#/components/schemas/QueueMessage"}], "required": ["action", "data"], "oneOf": shapes}
