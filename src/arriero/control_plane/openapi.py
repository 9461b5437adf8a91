"""The OpenAPI description of the routes that FastAPI does not make."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from arriero.control_plane.past import shapes
from arriero.types.described import describe_guard
from arriero.types.tasks import TaskDefinition, TaskResult

_TEXT = {"type": "string"}
_WAIT = {
    "name": "wait",
    "in": "query",
    "required": False,
    "description": "Seconds to wait for the result.",
    "schema": {"type": "number", "minimum": 0},
}

_PENDING = {
    "type": "object",
    "properties": {
        "task_id": _TEXT,
        "status": _TEXT,
        "waiting_for": {**_TEXT, "description": "Why nobody works on it."},
    },
    "required": ["task_id", "status"],
}


def add_hot_routes(app: FastAPI) -> None:
    """Make ``app.openapi`` describe the hot routes beside the others."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _merge(schema)
            describe_guard(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _merge(schema: dict[str, Any]) -> None:
    models = schema.setdefault("components", {}).setdefault("schemas", {})
    task = _model(models, TaskDefinition, "validation", "TaskDefinition-Input")
    result = _model(models, TaskResult, "serialization", "TaskResult")
    for name, shape in shapes().items():
        models.setdefault(name, shape)
    paths = schema["paths"]
    paths.setdefault("/sessions/{session_id}/tasks", {})["post"] = _submit(task, result)
    paths.setdefault("/sessions/{session_id}/tasks/{task_id}/result", {})["get"] = _get_result(result)
    paths["/workers/{worker_id}/renew"] = {"post": _renew()}


def _model(models: dict[str, Any], kind: type[Any], mode: Any, name: str) -> dict[str, str]:
    schema = kind.model_json_schema(mode=mode, ref_template="#/components/schemas/{model}")
    models.update(schema.pop("$defs", {}))
    models[name] = schema
    return {"$ref": f"#/components/schemas/{name}"}


def _submit(task: dict[str, str], result: dict[str, str]) -> dict[str, Any]:
    key = {"name": "Idempotency-Key", "in": "header", "required": False, "schema": {**_TEXT, "maxLength": 255}}
    return {
        "tags": ["tasks"],
        "summary": "Submit",
        "description": "Accept a task. With wait, the answer is its result, or 202 when that takes longer.",
        "operationId": "submit_task",
        "parameters": [_in_path("session_id"), _WAIT, key],
        "requestBody": {"required": True, "content": _json(task)},
        "responses": {
            "200": {"description": "The task's id, or its result.", "content": _json({"anyOf": [_TEXT, result]})},
            "202": {"description": "Accepted, and not ready yet.", "content": _json(_PENDING)},
            **_errors("404", "409", "413", "422", "429", "503"),
        },
    }


def _get_result(result: dict[str, str]) -> dict[str, Any]:
    return {
        "tags": ["tasks"],
        "summary": "Result",
        "description": "The result, or null while there is none; with wait, as soon as there is one.",
        "operationId": "task_result",
        "parameters": [_in_path("session_id"), _in_path("task_id"), _WAIT],
        "responses": {
            "200": {"description": "The result.", "content": _json({"anyOf": [result, {"type": "null"}]})},
            "202": {"description": "Not ready yet.", "content": _json(_PENDING)},
            **_errors("404", "422"),
        },
    }


def _renew() -> dict[str, Any]:
    lease = {"type": "object", "properties": {"lease": {"type": "number"}}}
    return {
        "tags": ["workers"],
        "summary": "Renew",
        "description": "Renew the lease of a connected worker, in seconds from now.",
        "operationId": "renew_lease",
        "parameters": [_in_path("worker_id")],
        "responses": {"200": {"description": "The lease.", "content": _json(lease)}, **_errors("409")},
    }


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: {"description": "An error.", "content": _json({"type": "object"})} for status in statuses}
