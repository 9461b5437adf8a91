"""The documented JSON shapes: each field and its types. Further fields are allowed, none may be missing."""

from typing import Any

Kind = type | tuple[type, ...]
NONE = type(None)

HOME = dict.fromkeys(("running", "step_interval", "services_store_key", "tasks_store_key", "session_store_key"), str)
SESSION = {"session_id": str, "task_ids": list, "state": dict}
TASK = {
    "input": str,
    "task_id": str,
    "session_id": str,
    "agent_id": str,
    "service_id": str,
    "status": str,
    "attempts": int,
    "error": (dict, NONE),
    "deadline": (float, int, NONE),
    "parent": (str, NONE),
    "created_at": float,
    "started_at": (float, NONE),
    "finished_at": (float, NONE),
}
RESULT = {
    "task_id": str,
    "history": list,
    "result": str,
    "data": dict,
    "value": object,
    "status": str,
    "error": (dict, NONE),
    "attempts": int,
}
SERVICE = {"service_name": str, "description": str, "prompt": list, "host": (str, NONE), "port": (int, NONE)}
CONTROL_PLANE_CONFIG = {
    "services_store_key": str,
    "tasks_store_key": str,
    "session_store_key": str,
    "step_interval": float,
    "host": str,
    "port": int,
    "internal_host": (str, NONE),
    "internal_port": (int, NONE),
    "running": bool,
    "cors_origins": (list, NONE),
    "topic_namespace": str,
    "state_store_uri": NONE,  # it may hold a password
    "use_tls": bool,
}
SIMPLE_QUEUE = {"host": str, "port": int, "internal_host": (str, NONE), "internal_port": (int, NONE)}
SERVICE_HOME = dict.fromkeys(
    ("service_name", "description", "running", "step_interval", "num_outstanding_calls", "type"), str
)
ERROR = {"code": str, "message": str, "type": str}


def has_shape(value: Any, shape: dict[str, Kind]) -> Any:
    """The value, which is an object with every field of the shape."""
    assert isinstance(value, dict), value
    for name, kind in shape.items():
        assert name in value, f"{name} is missing in {value}"
        assert isinstance(value[name], kind), f"{name} is {value[name]!r}, which is no {kind}"
        assert kind is bool or not isinstance(value[name], bool) or kind is object, f"{name} is a boolean"
    return value


def refused(answer: tuple[int, Any], status: int, code: str, *words: str) -> None:
    """The answer is an error of that status and code, whose sentence has those words; ``detail`` says the same."""
    given, body = answer
    assert given == status, body
    assert set(body) == {"detail", "error"}
    error = has_shape(body["error"], ERROR)
    assert error["code"] == code
    assert body["detail"] == error["message"] or isinstance(body["detail"], list)
    for word in words:
        assert word in error["message"]
