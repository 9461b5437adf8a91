"""The routes on the path of every task, as plain Starlette handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arriero.control_plane.answers import answer, error_answer, result_view
from arriero.control_plane.bodies import parse, read_body, seconds_of
from arriero.core.core import Core
from arriero.core.records import TaskRecord
from arriero.core.tasks import Submission, too_large
from arriero.types.errors import ArrieroError, InvalidInput
from arriero.types.ids import id_from

_submission = msgspec.json.Decoder(Submission)
#: A JSON text may be longer than what it says: each quote and line end of the input takes two characters.
ESCAPED = 2
BESIDES = 64 * 1024
MAX_KEY = 255
#: What a trace needs to go on; taken from the request into the task.
TRACE_HEADERS = ("traceparent", "tracestate")


def hot_routes(core: Core) -> list[Route]:
    """Submit, and ask for a result."""
    hot = _Hot(core)
    return [
        Route("/sessions/{session_id}/tasks", _typed(hot.submit), methods=["POST"]),
        Route("/sessions/{session_id}/tasks/{task_id}/result", _typed(hot.result), methods=["GET"]),
    ]


class _Hot:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._config = core.kernel.config

    async def submit(self, request: Request) -> Response:
        """Accept a task. With ``?wait=`` the answer is its result, or 202 when that takes longer."""
        wait = seconds_of(request, "wait", self._config.max_wait)
        task = await self._core.tasks.submit(
            request.path_params["session_id"], await self._submission(request), _trace(request)
        )
        if wait is None:
            return answer(task.id)
        return _result(await self._core.tasks.wait(task, wait), {"task_id": task.id, "status": task.status})

    async def result(self, request: Request) -> Response:
        """The result, or null while there is none; with ``?wait=`` as soon as there is one."""
        wait = seconds_of(request, "wait", self._config.max_wait)
        params = request.path_params
        task = await self._core.tasks.get(params["session_id"], params["task_id"])
        task = await self._core.tasks.wait(task, wait or 0.0)
        return _result(task, None, 200 if wait is None else 202)

    async def _submission(self, request: Request) -> Submission:
        limit = self._config.max_input
        body = await read_body(request, ESCAPED * limit + BESIDES)
        submission = parse(body, _submission, "the task")
        if len(body) > limit and (size := len(submission.input.encode())) > limit:
            raise too_large(size, limit)
        key = request.headers.get("idempotency-key")
        if submission.task_id is None and key is not None:
            submission.task_id = _id_for(request, key)
        return submission


def _id_for(request: Request, key: str) -> str:
    """The task id that stands for an idempotency key on this route."""
    if not 0 < len(key) <= MAX_KEY:
        raise InvalidInput(f"Idempotency-Key must have 1 to {MAX_KEY} characters")
    return id_from(request.url.path, key)


def _result(task: TaskRecord, otherwise: object, status: int = 202) -> Response:
    return answer(result_view(task)) if task.ended else answer(otherwise, status)


def _trace(request: Request) -> dict[str, str]:
    headers = request.headers
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}


def _typed(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        try:
            return await handler(request)
        except ArrieroError as error:
            return error_answer(error)

    return run
