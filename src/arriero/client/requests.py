"""Every request to the control plane as a value, made without I/O, with the reader of its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from pydantic import TypeAdapter, ValidationError

from arriero.client.answers import Ended, read_ended, refusal, unreadable
from arriero.types.errors import InvalidInput
from arriero.types.history import DeadTask, TaskHistory
from arriero.types.ids import generate_id, id_from
from arriero.types.services import ServiceDefinition
from arriero.types.tasks import EventDefinition, SessionDefinition, TaskDefinition, TaskResult

T = TypeVar("T")

LONGEST_KEY = 255
LONGEST_SHOWN = 80
#: How many entries of a history are asked for at once.
LONGEST_HISTORY = 10_000
SUCCESS = range(200, 300)
#: The header that says what to ask for as ``after`` to get the rest of a list, as it stands in a query.
NEXT_AFTER = "X-Next-After"

_encode = msgspec.json.Encoder().encode
_JSON = {"Content-Type": "application/json"}


class Request(msgspec.Struct, Generic[T], frozen=True):
    """One request. ``path`` and ``query`` are percent-encoded, ``read`` turns the body of a success into the result.

    ``wait`` is how long the control plane may hold the answer back, ``pause`` how long to wait before sending; both
    in seconds. All requests may be repeated.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    query: str = ""
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    wait: float | None = None
    pause: float = 0.0

    @property
    def target(self) -> str:
        """Path and query, as they stand in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def parse(self, status: int, body: bytes) -> T:
        """The result, or the typed error that the answer stands for."""
        if status not in SUCCESS:
            raise refusal(status, self.name, body)
        try:
            return self.read(body)
        except (msgspec.DecodeError, ValidationError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable(status, self.name, body, error) from error

    @property
    def name(self) -> str:
        """How errors name the request."""
        return f"{self.method} {self.path}"


class Submission(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body that submits a task; ``deadline`` is in seconds from acceptance."""

    input: str
    task_id: str
    session_id: str
    service_id: str | None = None
    deadline: float | None = None
    headers: Mapping[str, str] = {}

    @classmethod
    def of(cls, task: TaskDefinition, session_id: str) -> Submission:
        """What a client says of a task."""
        return cls(
            input=task.input,
            task_id=task.task_id,
            session_id=session_id,
            service_id=task.service_id,
            deadline=task.deadline,
            headers=task.headers,
        )


# Sessions


def create_session(session_id: str | None = None) -> Request[str]:
    """Make a session; with an id the one of that id, which may exist."""
    if session_id is None:
        return Request("POST", "/sessions/create", _text, headers=_keyed(generate_id()))
    segment("session id", session_id)
    body = _encode({"session_id": session_id})
    return Request("POST", "/sessions/create", _text, body=body, headers=_keyed(session_id) | _JSON)


def get_session(session_id: str) -> Request[SessionDefinition]:
    """A session with its state and the ids of its tasks."""
    return Request("GET", _session(session_id), SessionDefinition.model_validate_json)


def list_sessions(after: str = "") -> Request[list[SessionDefinition]]:
    """The sessions, or those behind a cursor."""
    return Request("GET", "/sessions", _sessions, _after(after))


def delete_session(session_id: str) -> Request[None]:
    """Remove a session and its tasks."""
    return Request("POST", f"{_session(session_id)}/delete", _nothing)


def get_state(session_id: str) -> Request[dict[str, Any]]:
    """The state of a session."""
    return Request("GET", f"{_session(session_id)}/state", _object)


def update_state(session_id: str, changes: bytes) -> Request[None]:
    """Merge a JSON object into the state of a session."""
    return Request("POST", f"{_session(session_id)}/state", _nothing, body=changes, headers=_JSON)


# Tasks


def new_task_id(session_id: str, key: str | None = None) -> str:
    """The id of a task that is about to be submitted; under an idempotency key, always the same."""
    return generate_id() if key is None else id_from(f"/sessions/{session_id}/tasks", _key(key))


def submit(task: Submission) -> Request[str]:
    """Submit a task; gives its id as soon as it is stored."""
    return Request("POST", f"{_session(task.session_id)}/tasks", _text, body=_encode(task), headers=_submitting(task))


def submit_and_wait(task: Submission, wait: float) -> Request[Ended | None]:
    """Submit a task and wait for its end, for at most ``wait`` seconds."""
    path = f"{_session(task.session_id)}/tasks"
    return Request("POST", path, read_ended, _wait(wait), _encode(task), _submitting(task), wait)


def await_end(session_id: str, task_id: str, wait: float, pause: float = 0.0) -> Request[Ended | None]:
    """Wait for the end of a task, for at most ``wait`` seconds."""
    return Request("GET", f"{_task(session_id, task_id)}/result", read_ended, _wait(wait), wait=wait, pause=pause)


def get_result(session_id: str, task_id: str) -> Request[TaskResult | None]:
    """What came of a task, or None while nothing has."""
    return Request("GET", f"{_task(session_id, task_id)}/result", _result)


def get_task(session_id: str, task_id: str) -> Request[TaskDefinition]:
    """A task with its status."""
    return Request("GET", _task(session_id, task_id), TaskDefinition.model_validate_json)


def list_tasks(session_id: str, after: str = "") -> Request[list[TaskDefinition]]:
    """The tasks of a session in the order of their submission, or those behind a cursor."""
    return Request("GET", f"{_session(session_id)}/tasks", _tasks, _after(after))


def current_task(session_id: str) -> Request[TaskDefinition | None]:
    """The task that was submitted last."""
    return Request("GET", f"{_session(session_id)}/current_task", _maybe_task)


def cancel(session_id: str, task_id: str, reason: str | None = None) -> Request[TaskDefinition]:
    """End a task as cancelled, unless it has ended; gives it as it is then."""
    body = None if reason is None else _encode({"reason": reason})
    headers = {} if body is None else _JSON
    path = f"{_task(session_id, task_id)}/cancel"
    return Request("POST", path, TaskDefinition.model_validate_json, body=body, headers=headers)


def send_event(session_id: str, task_id: str, event: EventDefinition, key: str | None = None) -> Request[None]:
    """Send an event into a task; the same key again is the same event."""
    body = _encode({"service_id": event.service_id, "event_obj_str": event.event_obj_str})
    headers = _JSON | _keyed(_key(key) if key is not None else generate_id())
    return Request("POST", f"{_task(session_id, task_id)}/send_event", _nothing, body=body, headers=headers)


def task_events(session_id: str, task_id: str, after: str = "") -> Request[None]:
    """The stream of a task as server-sent events, behind the event with the id ``after``; it has no body to read."""
    headers = {"Accept": "text/event-stream"}
    if after:
        headers["Last-Event-ID"] = after
    return Request("GET", f"{_task(session_id, task_id)}/events", _nothing, headers=headers)


def find_task(task_id: str) -> Request[TaskDefinition]:
    """A task with its status, whichever session it belongs to."""
    return Request("GET", f"/tasks/{segment('task id', task_id)}", TaskDefinition.model_validate_json)


# The past of tasks


def history(session_id: str, task_id: str, after: int = 0, *, data: bool = False) -> Request[TaskHistory]:
    """A page of what has happened to a task, behind the ``after``-th entry."""
    query = "&".join(
        [f"limit={LONGEST_HISTORY}", *([f"after={after}"] if after else []), *(["data=true"] if data else [])]
    )
    return Request("GET", f"{_task(session_id, task_id)}/history", _history, query)


def fork(
    session_id: str, task_id: str, after_step: int | str, into: str | None = None, key: str | None = None
) -> Request[str]:
    """Make a task that goes on behind a finished step of another one; ``into`` is its session."""
    body = _encode({"after_step": after_step, "session_id": into})
    return Request("POST", f"{_task(session_id, task_id)}/fork", _text, body=body, headers=_JSON | _keyed_by(key))


def replay(session_id: str, task_id: str, into: str | None = None, key: str | None = None) -> Request[str]:
    """Make a task with the input of another one; ``into`` is its session."""
    body = _encode({"session_id": into})
    return Request("POST", f"{_task(session_id, task_id)}/replay", _text, body=body, headers=_JSON | _keyed_by(key))


def resume(session_id: str, task_id: str) -> Request[TaskDefinition]:
    """Let any worker go on with a task whose workflow has changed."""
    return Request("POST", f"{_task(session_id, task_id)}/resume", TaskDefinition.model_validate_json)


def restart(session_id: str, task_id: str) -> Request[TaskDefinition]:
    """Have a task whose workflow has changed done from its beginning."""
    return Request("POST", f"{_task(session_id, task_id)}/restart", TaskDefinition.model_validate_json)


def list_dead(service: str | None = None, after: str = "") -> Request[list[DeadTask]]:
    """The tasks that failed or are dead, of one service or of all, or those behind a cursor."""
    only = [] if service is None else [f"service={segment('service name', service)}"]
    return Request("GET", "/dead", _dead_list, "&".join(filter(None, [*only, _after(after)])))


def get_dead(task_id: str) -> Request[DeadTask]:
    """One of them."""
    return Request("GET", f"/dead/{segment('task id', task_id)}", _dead)


def replay_dead(task_id: str, key: str | None = None) -> Request[str]:
    """Make a task with the same input, and take the old one off the list."""
    return Request("POST", f"/dead/{segment('task id', task_id)}/replay", _text, headers=_keyed_by(key))


def drop_dead(task_id: str) -> Request[None]:
    """Take a task off the list."""
    return Request("POST", f"/dead/{segment('task id', task_id)}/drop", _nothing)


# Services


def register_service(service: ServiceDefinition) -> Request[dict[str, Any] | None]:
    """Make a service known; gives the settings of the control plane."""
    body = service.model_dump_json().encode()
    return Request("POST", "/services/register", _maybe_object, body=body, headers=_JSON)


def deregister_service(name: str) -> Request[None]:
    """Take a service out of the registry."""
    try:
        query = urlencode({"service_name": name})
    except UnicodeEncodeError as error:
        raise InvalidInput(f"service name {name!r} is not text that can be sent") from error
    return Request("POST", "/services/deregister", _nothing, query)


def get_service(name: str) -> Request[ServiceDefinition]:
    """What is known of a service."""
    return Request("GET", f"/services/{segment('service name', name)}", ServiceDefinition.model_validate_json)


def list_services() -> Request[dict[str, ServiceDefinition]]:
    """Every known service, by its name."""
    return Request("GET", "/services", _services)


def queue_config() -> Request[dict[str, Any]]:
    """The settings of the message queue, under the name of their class."""
    return Request("GET", "/queue_config", _object)


# Parts


@lru_cache(maxsize=4096)
def segment(what: str, name: str) -> str:
    """A name as one segment of a path.

    Servers decode paths before they choose a route, so what would change the route cannot be sent: slashes, control
    characters, ``.`` and ``..``.
    """
    if not name or name in (".", "..") or not name.isprintable() or "/" in name or "\\" in name:
        shown = name if len(name) <= LONGEST_SHOWN else name[:LONGEST_SHOWN] + "..."
        raise InvalidInput(f"{what} {shown!r} must be printable, not empty, without slashes, and not '.' or '..'")
    return quote(name, safe="")


def _session(session_id: str) -> str:
    return f"/sessions/{segment('session id', session_id)}"


def _task(session_id: str, task_id: str) -> str:
    return f"{_session(session_id)}/tasks/{segment('task id', task_id)}"


def _submitting(task: Submission) -> dict[str, str]:
    return {"Content-Type": "application/json", "Idempotency-Key": segment("task id", task.task_id)}


def _key(key: str) -> str:
    if not 0 < len(key) <= LONGEST_KEY or not key.isprintable():
        raise InvalidInput(f"an idempotency key must have 1 to {LONGEST_KEY} printable characters")
    return key


def _keyed_by(key: str | None) -> dict[str, str]:
    return _keyed(generate_id() if key is None else _key(key))


def _keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": quote(key, safe="")}


def _after(cursor: str) -> str:
    return f"after={cursor}" if cursor else ""


def _wait(seconds: float) -> str:
    return f"wait={round(max(seconds, 0.0), 3):g}"


_text = msgspec.json.Decoder(str).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_maybe_object = msgspec.json.Decoder(dict[str, Any] | None).decode
_history = msgspec.json.Decoder(TaskHistory).decode
_dead = msgspec.json.Decoder(DeadTask).decode
_dead_list = msgspec.json.Decoder(list[DeadTask]).decode
_null = msgspec.json.Decoder(None).decode
_session_map = TypeAdapter(dict[str, SessionDefinition]).validate_json
_services = TypeAdapter(dict[str, ServiceDefinition]).validate_json
_tasks = TypeAdapter(list[TaskDefinition]).validate_json
_maybe_task = TypeAdapter(TaskDefinition | None).validate_json
_result = TypeAdapter(TaskResult | None).validate_json


def _sessions(body: bytes) -> list[SessionDefinition]:
    return list(_session_map(body).values())


def _nothing(body: bytes) -> None:
    if body:
        _null(body)
