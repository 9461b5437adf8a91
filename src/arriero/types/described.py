"""What every OpenAPI description says of the guard before its routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arriero.types.guard import OPEN

_ERROR = {"application/json": {"schema": {"type": "object"}}}
_REFUSALS = {
    "401": "A bearer token is needed, or it is not known.",
    "403": "The token lacks the scope, or a web page of another origin asks.",
    "421": "The Host header names another server.",
}


def guarded(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The same for a description that is made anew or kept, as an application's ``openapi`` does."""

    def openapi() -> dict[str, Any]:
        schema = make()
        describe_guard(schema)
        return schema

    return openapi


def describe_guard(schema: dict[str, Any]) -> None:
    """Add the bearer token, which is needed once tokens are configured, and the refusals to every operation."""
    schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path != OPEN:
                operation["security"] = [{"token": []}, {}]
            for status, told in _REFUSALS.items():
                if path != OPEN or status != "401":
                    operation["responses"].setdefault(status, {"description": told, "content": _ERROR})
