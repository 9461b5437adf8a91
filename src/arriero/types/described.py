"""What every OpenAPI description says of errors, and of the guard before its routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from arriero.types.errors import ErrorInfo
from arriero.types.guard import OPEN

_COMPONENTS = "#/components/schemas/{name}"
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
#: The body of every error.
_SHAPE = {
    "type": "object",
    "description": "An error. `detail` says it to people; of a body that is not of its form it may list the faults.",
    "properties": {
        "detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        "error": {"$ref": "#/components/schemas/ErrorInfo"},
    },
    "required": ["detail", "error"],
}
#: How FastAPI describes what it refuses, which is answered in our form here.
_REPLACED = ("HTTPValidationError", "ValidationError")
_TOLD = {
    "400": "It cannot be set up this way.",
    "401": "A bearer token is needed, or it is not known.",
    "403": "The token lacks the scope, or a web page of another origin asks.",
    "404": "There is nothing of that name.",
    "409": "What is there already does not allow it.",
    "413": "The body, or a value in it, is larger than the limit.",
    "421": "The Host header names another server.",
    "422": "The request is not of the form described.",
    "429": "There is too much work already; Retry-After says when to come again.",
    "431": "The line and headers of the request are too large or too many.",
    "500": "The server met a fault of its own.",
    "503": "A part that is needed does not answer now; Retry-After says when to come again.",
}
_GUARD = ("401", "403", "421", "431", "500")
_LATER = ("429", "503")
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of these statuses, as a route's ``responses``."""
    return {status: _refusal(str(status)) for status in statuses}


def _refusal(status: str) -> dict[str, Any]:
    later = {"headers": _RETRY_AFTER} if status in _LATER else {}
    return {"description": _TOLD[status], "content": _ERROR, **later}


def json_body(shape: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The body of a route that reads it itself, as its ``openapi_extra``."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": shape}}}}


def shapes_of(*kinds: Any) -> dict[str, Any]:
    """The shapes of structs, and of all that they hold, by their names among the components."""
    return msgspec.json.schema_components(kinds, ref_template=_COMPONENTS)[1]


def guarded(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The same for a description that is made anew or kept, as an application's ``openapi`` does."""

    def openapi() -> dict[str, Any]:
        schema = make()
        describe_guard(schema)
        return schema

    return openapi


def describe_guard(schema: dict[str, Any]) -> None:
    """Add the bearer token, which is needed once tokens are configured, and what every operation may answer."""
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    shapes = components.setdefault("schemas", {})
    shapes |= {**shapes_of(ErrorInfo), "Error": _SHAPE}
    for name in _REPLACED:
        shapes.pop(name, None)
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            _describe(operation, is_open=path == OPEN)


def _describe(operation: dict[str, Any], *, is_open: bool) -> None:
    responses = operation["responses"]
    if not is_open:
        operation["security"] = [{"token": []}, {}]
    if "422" in responses:
        responses["422"] = _refusal("422")
    if "requestBody" in operation:
        responses.setdefault("413", _refusal("413"))
    for status in _GUARD:
        if not is_open or status != "401":
            responses.setdefault(status, _refusal(status))
