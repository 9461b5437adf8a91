"""The routes about what was: histories, forks and replays, dead tasks, and runs whose workflow has changed."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from arriero.control_plane.answers import answer, page, task_shown
from arriero.control_plane.bodies import SMALL, After, Key, parse, read_body
from arriero.core import dead
from arriero.core.core import Core
from arriero.core.history import MOST
from arriero.types.described import json_body, refusals, shapes_of
from arriero.types.history import DeadTask, TaskHistory
from arriero.types.ids import id_from
from arriero.types.names import LONGEST_NAME
from arriero.types.strict import StrictRoute
from arriero.types.tasks import TaskDefinition

SHAPES = "#/components/schemas/{name}"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]


class Replaying(msgspec.Struct):
    """Where a task is to be done again; by default in its own session."""

    session_id: Name | None = None


class Forking(msgspec.Struct):
    """Behind which finished step of the old task the new one begins: its number, or ``name#k``; and in which session.

    ``name`` alone is the first time that the step finished.
    """

    after_step: (
        Annotated[int, msgspec.Meta(ge=1)]
        | Annotated[float, msgspec.Meta(ge=1, multiple_of=1)]  # JSON has 2.0 for an integer, too
        | Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    )
    session_id: Name | None = None

    @property
    def step(self) -> int | str:
        return self.after_step if isinstance(self.after_step, str) else int(self.after_step)


_replaying = msgspec.json.Decoder(Replaying)
_forking = msgspec.json.Decoder(Forking)


def shapes() -> dict[str, Any]:
    """The shapes of what these routes take and give, by their names."""
    return shapes_of(TaskHistory, DeadTask, Replaying, Forking)


def past_routes(core: Core) -> APIRouter:
    """What may be asked and done about the past of a task."""
    routes = APIRouter(tags=["past"], route_class=StrictRoute)

    @routes.get("/tasks/{task_id}", response_model=TaskDefinition, responses=refusals(404, 503))
    async def task(task_id: str) -> Response:
        """The task, whichever session it belongs to."""
        return answer(await task_shown(core, None, task_id))

    @routes.get("/sessions/{session_id}/tasks/{task_id}/history", responses=_gives("TaskHistory") | refusals(404, 503))
    async def history(
        session_id: str,
        task_id: str,
        after: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 1000,
        data: bool = False,
    ) -> Response:
        """What has happened to the task, in order: claims, steps, events, waits, losses, retries, children.

        It comes in pages: `following` says what to ask for as `after` to get the next one. With `data`, events come
        with what they hold.
        """
        record = await core.tasks.get(session_id, task_id)
        return answer(await core.history.of(record, after, limit, data=data))

    @routes.post(
        "/sessions/{session_id}/tasks/{task_id}/fork",
        openapi_extra=_takes("Forking", required=True),
        responses=_GIVES_ID | refusals(404, 409, 413, 429, 503),
    )
    async def fork(session_id: str, task_id: str, request: Request, idempotency_key: Key = "") -> Response:
        """Make a new task that goes on behind a finished step of one that has ended, on the workflow as it is today."""
        wanted = parse(await read_body(request, SMALL), _forking, "the fork")
        old = await core.tasks.get(session_id, task_id)
        new_id = _id_for(request, idempotency_key)
        return answer((await core.copies.fork(old, wanted.step, wanted.session_id, new_id)).id)

    @routes.post(
        "/sessions/{session_id}/tasks/{task_id}/replay",
        openapi_extra=_takes("Replaying"),
        responses=_GIVES_ID | refusals(404, 409, 413, 429, 503),
    )
    async def replay(session_id: str, task_id: str, request: Request, idempotency_key: Key = "") -> Response:
        """Make a new task with the input of one that has ended."""
        body = await read_body(request, SMALL)
        wanted = parse(body, _replaying, "the replay") if body.strip() else Replaying()
        old = await core.tasks.get(session_id, task_id)
        return answer((await core.copies.replay(old, wanted.session_id, _id_for(request, idempotency_key))).id)

    return routes


def changed_routes(core: Core) -> APIRouter:
    """What may be done with a run whose workflow has changed, besides cancelling it."""
    routes = APIRouter(tags=["past"], route_class=StrictRoute)

    @routes.post(
        "/sessions/{session_id}/tasks/{task_id}/resume",
        response_model=TaskDefinition,
        responses=refusals(404, 409, 503),
    )
    async def resume(session_id: str, task_id: str) -> Response:
        """Let any worker go on with a task that waits because its workflow has changed."""
        await core.changed.resume(await core.tasks.get(session_id, task_id))
        return answer(await task_shown(core, session_id, task_id))

    @routes.post(
        "/sessions/{session_id}/tasks/{task_id}/restart",
        response_model=TaskDefinition,
        responses=refusals(404, 409, 503),
    )
    async def restart(session_id: str, task_id: str) -> Response:
        """Have a task that waits because its workflow has changed done from its beginning, on the one of today."""
        await core.changed.restart(await core.tasks.get(session_id, task_id))
        return answer(await task_shown(core, session_id, task_id))

    return routes


def dead_routes(core: Core) -> APIRouter:
    """The list of tasks that failed or are dead."""
    routes = APIRouter(prefix="/dead", tags=["dead tasks"], route_class=StrictRoute)

    @routes.get("", responses=_gives("DeadTask", several=True) | refusals(503))
    async def listed(
        service: Annotated[str | None, Query(min_length=1, max_length=LONGEST_NAME)] = None,
        limit: Annotated[int, Query(ge=1, le=dead.MOST)] = dead.MOST,
        after: After = "",
    ) -> Response:
        """Tasks that failed or are dead and that nobody has dealt with, the oldest end first; pages as for sessions.

        Those of one service come on pages that may be short, or empty, as long as `X-Next-After` follows.
        """
        found, following = await core.dead.listed(service, after, limit)
        return page(found, following)

    @routes.get("/{task_id}", responses=_gives("DeadTask") | refusals(404, 503))
    async def show(task_id: str) -> Response:
        """One of them."""
        return answer(await core.dead.show(task_id))

    @routes.post("/{task_id}/replay", responses=_GIVES_ID | refusals(404, 409, 413, 429, 503))
    async def replay(task_id: str, request: Request, idempotency_key: Key = "") -> Response:
        """Make a new task with the same input, in the same session, and take the old one off the list."""
        return answer((await core.dead.replay(task_id, _id_for(request, idempotency_key))).id)

    @routes.post("/{task_id}/drop", responses=refusals(404, 503))
    async def drop(task_id: str) -> None:
        """Take the task off the list; the task itself stays for its time."""
        await core.dead.drop(task_id)

    return routes


def _id_for(request: Request, key: str) -> str | None:
    """The id of the new task that stands for an idempotency key on this route."""
    return id_from(request.url.path, key) if key else None


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _shape(name: str) -> dict[str, str]:
    return {"$ref": SHAPES.format(name=name)}


def _gives(name: str, *, several: bool = False) -> dict[int | str, dict[str, Any]]:
    shape = {"type": "array", "items": _shape(name)} if several else _shape(name)
    return {200: {"description": "As asked for.", "content": _json(shape)}}


def _takes(name: str, *, required: bool = False) -> dict[str, Any]:
    return json_body(_shape(name), required=required)


_GIVES_ID: dict[int | str, dict[str, Any]] = {
    200: {"description": "The id of the new task.", "content": _json({"type": "string"})}
}
