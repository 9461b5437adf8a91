"""What schemathesis cannot know of the routes from their description: read by its command line, no test itself."""

import json
import re
from typing import Any
from urllib.parse import unquote

import schemathesis
from hypothesis import strategies as st

from arriero.types.names import is_name

#: A service that has a worker.
SERVED = "greeting"

names = st.sampled_from(["Answer", "HumanResponseEvent", "a.module.Class"])
values = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=3)
schemathesis.openapi.format(
    "event", st.builds(lambda name, value: json.dumps({"qualified_name": name, "value": value}), names, values)
)

#: A consumer that may be registered; nobody listens there.
NOBODY = "http://127.0.0.1:9/"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if case.path == "/services/deregister" and (case.query or {}).get("service_name") == SERVED:
        case.query["service_name"] = "another"
    body = case.body
    if case.path == "/deregister_consumer" and not isinstance(body, dict):
        case.query = {"id_": "nobody", **(case.query or {})}  # one of both is needed
    if case.path == "/register_consumer" and isinstance(body, dict) and re.match("https?://[^/]", text(body, "url")):
        body["url"] = NOBODY  # the settings say which hosts may be named besides
    if isinstance(body, dict) and isinstance(step := body.get("after_step"), float) and step.is_integer():
        body["after_step"] = int(step)  # whole numbers are taken as they are usually written
    task = body.get("data", body) if isinstance(body, dict) else None
    if isinstance(task, dict) and "input" in task:
        make_agree(task, case.path_parameters or {})


def make_agree(task: dict[str, Any], path: dict[str, Any]) -> None:
    """The two names of a service and the two places of a session must agree; and some tasks are to be run."""
    for field in ("service_id", "agent_id"):
        if is_name(text(task, field)) and len(str(task["input"])) % 2:
            task[field] = SERVED
    if text(task, "service_id") and text(task, "agent_id"):
        task["agent_id"] = task["service_id"]
    if isinstance(task.get("session_id"), str) and path:
        task["session_id"] = unquote(path["session_id"])


def text(task: dict[str, Any], field: str) -> str:
    value = task.get(field)
    return value if isinstance(value, str) else ""
