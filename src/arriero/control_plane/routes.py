"""The other routes, on FastAPI: sessions, services, messages, health."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from arriero.control_plane.answers import NEXT, answer, page, task_shown, task_view
from arriero.control_plane.bodies import SMALL, After, Key, parse, read_body
from arriero.control_plane.events import sent_event
from arriero.control_plane.hot import ESCAPED
from arriero.control_plane.openapi import CANCELLING, EVENT, NEW_SESSION, STATE
from arriero.control_plane.streaming import NDJSON, ServerSent, cursor
from arriero.core.core import Core
from arriero.core.listing import MOST
from arriero.core.services import from_definition, to_definition
from arriero.core.tasks import MAX_INPUT
from arriero.types.described import json_body, refusals
from arriero.types.errors import InvalidInput, Unavailable
from arriero.types.messages import QueueMessage
from arriero.types.services import ServiceDefinition
from arriero.types.settings import ControlPlaneConfig
from arriero.types.strict import StrictRoute
from arriero.types.tasks import SessionDefinition, TaskDefinition

_new_session = msgspec.json.Decoder(dict[str, Any])
_state = msgspec.json.Decoder(dict[str, Any])


class Cancelling(msgspec.Struct):
    """Why a task is to be cancelled."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


_cancelling = msgspec.json.Decoder(Cancelling)
#: How many entries of a list are wanted.
Limit = Annotated[int, Query(ge=1, le=MOST)]
LastEventId = Annotated[str, Header(json_schema_extra={"pattern": r"^[0-9]{0,18}$"})]


def home_routes(core: Core, queue_config: Callable[[], BaseModel] | None) -> APIRouter:
    """What it is, whether it lives, whether it takes tasks."""
    routes = APIRouter(tags=["control plane"], route_class=StrictRoute)
    config = core.kernel.config

    @routes.get("/")
    async def home() -> dict[str, str]:
        return {
            "running": str(core.started),
            "step_interval": str(config.step_interval),
            "services_store_key": config.services_store_key,
            "tasks_store_key": config.tasks_store_key,
            "session_store_key": config.session_store_key,
        }

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get("/ready", responses=NOT_READY)
    async def ready() -> Response:
        """Whether tasks are accepted, and if not, why."""
        problems = await core.check()
        return answer({"status": "not ready" if problems else "ready", "problems": problems}, 503 if problems else 200)

    @routes.get("/queue_config", responses=refusals(503))
    async def shown_queue_config() -> dict[str, Any]:
        """The configuration of the message queue, under the name of its class, without secrets."""
        if queue_config is None:
            raise Unavailable("this control plane has no message queue")
        return shown(queue_config())

    @routes.post("/process_message", responses=refusals(404, 409, 413, 429, 503))
    async def process_message(message: QueueMessage) -> None:
        """Take a documented message: a new task, a result, or a stream event."""
        await core.messages.take(message)

    return routes


def service_routes(core: Core) -> APIRouter:
    """The registry."""
    routes = APIRouter(prefix="/services", tags=["services"], route_class=StrictRoute)

    @routes.post("/register", responses=refusals(503))
    async def register(definition: ServiceDefinition) -> ControlPlaneConfig:
        """Make a service known, or replace what is known of it; gives the settings of the control plane."""
        await core.services.register(from_definition(definition))
        return core.kernel.config.model_copy(update={"state_store_uri": None})

    @routes.post("/deregister", responses=refusals(404, 503))
    async def deregister(service_name: str) -> None:
        await core.services.deregister(service_name)

    @routes.get("")
    async def services() -> dict[str, ServiceDefinition]:
        return {name: to_definition(record) for name, record in core.services.list().items()}

    @routes.get("/{service_name}", responses=refusals(404))
    async def service(service_name: str) -> ServiceDefinition:
        return to_definition(core.services.require(service_name))

    return routes


def session_routes(core: Core) -> APIRouter:
    """Sessions and their state."""
    routes = APIRouter(prefix="/sessions", tags=["sessions"], route_class=StrictRoute)

    @routes.post("/create", responses=refusals(413, 503), openapi_extra=json_body(NEW_SESSION, required=False))
    async def create(request: Request, idempotency_key: Key = "") -> str:
        """Make a session; with a body ``{"session_id": ...}`` the one of that id, which may exist."""
        body = await read_body(request, SMALL)
        wanted = parse(body, _new_session, "the session").get("session_id") if body.strip() else None
        if wanted is not None and not isinstance(wanted, str):
            raise InvalidInput("session_id must be text")
        return await core.sessions.create(wanted, idempotency_key or None)

    @routes.get("", response_model=dict[str, SessionDefinition], responses=PAGED | refusals(503))
    async def sessions(limit: Limit = MOST, after: After = "") -> Response:
        """The sessions by their ids; when there are more, ``X-Next-After`` says what to ask for as ``after``."""
        views, following = await core.listing.sessions(after, limit)
        return page({view.session_id: view for view in views}, following)

    @routes.get("/{session_id}", response_model=SessionDefinition, responses=refusals(404, 503))
    async def session(session_id: str) -> Response:
        """The session with its newest 10,000 tasks and its state."""
        return answer(await core.listing.session(session_id))

    @routes.post("/{session_id}/delete", responses=refusals(404, 409, 503))
    async def delete(session_id: str) -> None:
        """Remove the session and its tasks; those still open are ended first."""
        await core.sessions.delete(session_id)

    @routes.get("/{session_id}/state", responses=refusals(404, 503))
    async def state(session_id: str) -> dict[str, Any]:
        return await core.sessions.state(session_id)

    @routes.post("/{session_id}/state", responses=refusals(404, 409, 413, 503), openapi_extra=json_body(STATE))
    async def update_state(session_id: str, request: Request) -> None:
        """Merge the keys of a JSON object into the state."""
        body = await read_body(request, core.kernel.config.max_input, MAX_INPUT)
        await core.sessions.update_state(session_id, parse(body, _state, "the state"))

    return routes


def task_routes(core: Core) -> APIRouter:
    """Tasks, beside submitting them and getting their results, which are elsewhere."""
    routes = APIRouter(prefix="/sessions/{session_id}", tags=["tasks"], route_class=StrictRoute)

    @routes.get("/tasks", response_model=list[TaskDefinition], responses=PAGED | refusals(404, 503))
    async def tasks(session_id: str, limit: Limit = MOST, after: After = "") -> Response:
        """The session's tasks in the order of submission; ``X-Next-After`` as for sessions."""
        shown, following = await core.listing.tasks(session_id, after, limit)
        return page([task_view(task) for task in shown], following)

    @routes.get("/current_task", response_model=TaskDefinition | None, responses=refusals(404, 503))
    async def current_task(session_id: str) -> Response:
        """The task that was submitted last, or null."""
        newest = await core.listing.newest(session_id)
        return answer(task_view(newest) if newest is not None else None)

    @routes.get("/tasks/{task_id}", response_model=TaskDefinition, responses=refusals(404, 503))
    async def task(session_id: str, task_id: str) -> Response:
        """The task, with its status."""
        return answer(await task_shown(core, session_id, task_id))

    @routes.post("/tasks/{task_id}/send_event", responses=refusals(404, 409, 413, 503), openapi_extra=json_body(EVENT))
    async def send_event(session_id: str, task_id: str, request: Request, idempotency_key: Key = "") -> None:
        """Send an event to a task; it is stored when this is answered, and reaches the run wherever it is."""
        body = await read_body(request, ESCAPED * core.kernel.config.max_event + SMALL, "max_event")
        await core.inbox.send(session_id, task_id, sent_event(body, idempotency_key or None))

    @routes.post(
        "/tasks/{task_id}/cancel",
        response_model=TaskDefinition,
        responses=refusals(404, 409, 413, 503),
        openapi_extra=json_body(CANCELLING, required=False),
    )
    async def cancel(session_id: str, task_id: str, request: Request) -> Response:
        """End the task as cancelled, unless it has ended; a body may say why: ``{"reason": ...}``."""
        body = await read_body(request, SMALL)
        reason = parse(body, _cancelling, "the cancellation").reason if body.strip() else ""
        await core.tasks.get(session_id, task_id)
        await core.tasks.cancel(session_id, task_id, reason or "a client asked for it")
        return answer(await task_shown(core, session_id, task_id))

    @routes.get("/tasks/{task_id}/result_stream", response_class=NDJSON, responses=refusals(404, 503))
    async def result_stream(session_id: str, task_id: str, keep_alive: bool = False) -> Response:
        """The task's events as they come, one JSON object a line; with ``keep_alive``, empty lines in between."""
        await core.tasks.get(session_id, task_id)
        return await NDJSON.open(core, task_id, keep_alive=keep_alive)

    @routes.get("/tasks/{task_id}/events", response_class=ServerSent, responses=SERVER_SENT | refusals(404, 503))
    async def events(session_id: str, task_id: str, last_event_id: LastEventId = "") -> Response:
        """The task's whole stream as server-sent events with ids; ``Last-Event-ID`` resumes behind that one.

        A reader that has everything, the end included, is answered with 204, so that a browser does not come again.
        """
        await core.tasks.get(session_id, task_id)
        return await ServerSent.open(core, task_id, cursor(last_event_id))

    return routes


Responses = dict[int | str, dict[str, Any]]
_TEXT = {"type": "string"}
_EVENT = {
    "type": "object",
    "description": "Each event: its number, its kind, and JSON text.",
    "properties": {"id": _TEXT, "event": _TEXT, "data": _TEXT, "retry": {"type": "integer"}},
}
SERVER_SENT: Responses = {
    200: {"content": {ServerSent.media_type: {"schema": _EVENT}}},
    204: {"description": "Everything was read, the end included."},
}
NOT_READY: Responses = {503: {"description": "Tasks are not accepted; problems says why."}}
_NEXT = {"description": "What to ask for as after, when there are more.", "schema": {"type": "string"}}
PAGED: Responses = {200: {"headers": {NEXT: _NEXT}}}


def shown(config: BaseModel) -> dict[str, Any]:
    """A configuration under the name of its class, without what may hold credentials: each part has those itself."""
    dumped = config.model_dump(mode="json", exclude={"client_kwargs"})
    return {type(config).__name__: {name: _without_credentials(value) for name, value in dumped.items()}}


def _without_credentials(value: Any) -> Any:
    """Addresses without the user and password that they may hold, at any depth."""
    match value:
        case str():
            return re.sub(r"//[^/?#\s]*@", "//", value)
        case list():
            return [_without_credentials(item) for item in value]
        case dict():
            return {name: _without_credentials(item) for name, item in value.items()}
        case _:
            return value
