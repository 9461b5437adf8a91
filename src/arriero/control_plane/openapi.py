"""The OpenAPI description of what FastAPI cannot read: the hot routes, and bodies that are read by hand."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from arriero.control_plane.past import shapes
from arriero.core.described import SOME, TEXT, message, submission, task_message
from arriero.types.described import describe_guard, refusals
from arriero.types.messages import ActionTypes
from arriero.types.names import NAME
from arriero.types.tasks import TaskResult, TaskStatus, TaskStream

_ID = {"anyOf": [NAME, {"type": "null"}]}
_OPEN_STATUSES = [status.value for status in TaskStatus if not status.is_end]
_WAIT = {
    "name": "wait",
    "in": "query",
    "required": False,
    "description": "Seconds to wait for the result; more than max_wait counts as that.",
    "schema": {"type": "number", "minimum": 0},
}
_KEY = {"type": "string", "minLength": 1, "maxLength": 255}

_PENDING = {
    "type": "object",
    "properties": {
        "task_id": TEXT,
        "status": {"type": "string", "enum": _OPEN_STATUSES},
        "waits_for": {"type": "array", "items": {"type": "object"}, "description": "What keeps it from going on."},
        "reason": {**TEXT, "description": "Why nobody works on it, when that is so."},
    },
    "required": ["task_id", "status", "waits_for"],
}

#: Bodies of routes that read them by hand.
NEW_SESSION = {
    "type": "object",
    "properties": {"session_id": {**_ID, "description": "The id that it is to have; there may be one of that id."}},
}
STATE = {"type": "object", "description": "Keys and their new values; the other keys stay."}
CANCELLING = {
    "type": "object",
    "properties": {"reason": {"anyOf": [{"type": "string", "maxLength": 1000}, {"type": "null"}]}},
}
EVENT = {
    "type": "object",
    "properties": {
        "service_id": {"anyOf": [SOME, {"type": "null"}]},
        "agent_id": {"anyOf": [SOME, {"type": "null"}], "description": "The service, under its older name."},
        "event_obj_str": {
            "type": "string",
            "format": "event",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "object",
                "properties": {"qualified_name": {"type": "string"}, "value": {"type": "object"}},
                "required": ["qualified_name"],
            },
            "description": "An event as JSON text; the name of its class is looked up among those that are taken.",
        },
    },
    "required": ["event_obj_str"],
    "anyOf": [
        {"required": ["service_id"], "properties": {"service_id": SOME}},
        {"required": ["agent_id"], "properties": {"agent_id": SOME, "service_id": {"type": "null"}}},
    ],
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
    models["Submission"] = submission()
    result = _model(models, TaskResult, "serialization", "TaskResult")
    for name, shape in shapes().items():
        models.setdefault(name, shape)
    paths = schema["paths"]
    paths.setdefault("/sessions/{session_id}/tasks", {})["post"] = _submit(result)
    paths.setdefault("/sessions/{session_id}/tasks/{task_id}/result", {})["get"] = _get_result(result)
    paths["/workers/{worker_id}/renew"] = {"post": _renew()}
    paths["/process_message"]["post"]["requestBody"]["content"] = _json(_message(models))


def _message(models: dict[str, Any]) -> dict[str, Any]:
    """The shape of the messages that the control plane takes, by what they ask for."""
    result = {"status": {"enum": [TaskStatus.COMPLETED.value, TaskStatus.FAILED.value]}}
    finished = _model(models, TaskResult, "validation", "FinishedTask")
    asked = {
        ActionTypes.NEW_TASK: task_message(),
        ActionTypes.COMPLETED_TASK: {"allOf": [finished, {"properties": result}]},
        ActionTypes.TASK_STREAM: _model(models, TaskStream, "validation", "TaskStream"),
    }
    return message(asked)


def _model(models: dict[str, Any], kind: type[Any], mode: Any, name: str) -> dict[str, str]:
    schema = kind.model_json_schema(mode=mode, ref_template="#/components/schemas/{model}")
    models.update(schema.pop("$defs", {}))
    models[name] = schema
    if mode == "validation":
        schema["properties"]["task_id"] = NAME
    return {"$ref": f"#/components/schemas/{name}"}


def _submit(result: dict[str, str]) -> dict[str, Any]:
    key = {"name": "Idempotency-Key", "in": "header", "required": False, "schema": _KEY}
    return {
        "tags": ["tasks"],
        "summary": "Submit",
        "description": "Accept a task. With wait, the answer is its result, or 202 when that takes longer.",
        "operationId": "submit_task",
        "parameters": [_in_path("session_id"), _WAIT, key],
        "requestBody": {"required": True, "content": _json({"$ref": "#/components/schemas/Submission"})},
        "responses": {
            "200": {"description": "The task's id, or its result.", "content": _json({"anyOf": [TEXT, result]})},
            "202": {"description": "Accepted, and not ready yet.", "content": _json(_PENDING)},
            **_errors(404, 409, 413, 422, 429, 503),
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
            **_errors(404, 422, 503),
        },
    }


def _renew() -> dict[str, Any]:
    lease = {"type": "object", "properties": {"lease": {"type": "number"}}, "required": ["lease"]}
    return {
        "tags": ["workers"],
        "summary": "Renew",
        "description": "Renew the lease of a connected worker, in seconds from now.",
        "operationId": "renew_lease",
        "parameters": [_in_path("worker_id")],
        "responses": {"200": {"description": "The lease.", "content": _json(lease)}, **_errors(409, 503)},
    }


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): answer for status, answer in refusals(*statuses).items()}
