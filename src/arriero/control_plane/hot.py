"""The routes on the path of every task, answered without a framework between the server and the use case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import msgspec
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from arriero.control_plane.answers import result_view
from arriero.control_plane.bodies import MAX_KEY, parse, read_chunks
from arriero.core.core import Core
from arriero.core.outlook import reason
from arriero.core.records import TaskRecord
from arriero.core.tasks import MAX_INPUT, Submission, too_large
from arriero.types.errors import ArrieroError, InvalidInput
from arriero.types.ids import id_from
from arriero.types.serving import error_bytes
from arriero.types.strict import check_query

_submission = msgspec.json.Decoder(Submission)
_encode = msgspec.json.Encoder().encode
#: A JSON text may be longer than what it says: each quote and line end of the input takes two characters.
ESCAPED = 2
BESIDES = 64 * 1024
WAIT = b"wait="
#: What a trace needs to go on; taken from the request into the task.
TRACE_HEADERS = (b"traceparent", b"tracestate")
LONGEST_TRACE = 1024

Answer = tuple[int, bytes]
Handle = Callable[[Scope, Receive], Awaitable[Answer]]


class HotRoute:
    """One route as an ASGI application; the ids of its path are in the scope."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extra: list[tuple[bytes, bytes]] = []
        try:
            status, body = await self._handle(scope, receive)
        except ArrieroError as error:
            status, body, extra = error_bytes(error)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Hot:
    """Submit, and ask for a result."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._config = core.kernel.config
        self.submit = HotRoute(self._submit)
        self.result = HotRoute(self._result)

    def routes(self) -> list[Route]:
        """The same routes for an application that finds them by their paths."""
        return [
            Route("/sessions/{session_id}/tasks", self.submit, methods=["POST"]),
            Route("/sessions/{session_id}/tasks/{task_id}/result", self.result, methods=["GET"]),
        ]

    async def _submit(self, scope: Scope, receive: Receive) -> Answer:
        """Accept a task. With ``?wait=`` the answer is its result, or 202 when that takes longer."""
        wait = _wait(scope, self._config.max_wait)
        session_id: str = scope["path_params"]["session_id"]
        submission, trace = await self._read(scope, receive)
        if wait is None:
            task = await self._core.tasks.submit(session_id, submission, trace)
            return 200, _encode(task.id)
        task = await self._core.tasks.run(session_id, submission, trace, wait)
        return await self._outcome(task)

    async def _result(self, scope: Scope, receive: Receive) -> Answer:
        """The result, or null while there is none; with ``?wait=`` as soon as there is one."""
        wait = _wait(scope, self._config.max_wait)
        params = scope["path_params"]
        task = await self._core.tasks.get(params["session_id"], params["task_id"])
        task = await self._core.tasks.wait(task, wait or 0.0)
        if wait is None and not task.ended:
            return 200, b"null"
        return await self._outcome(task)

    async def _outcome(self, task: TaskRecord) -> Answer:
        """The result, or what is known of a task that has none yet."""
        if task.ended:
            return 200, _encode(result_view(task))
        task = await self._core.show(task.session_id, task.id, with_input=False)
        if task.ended:
            return await self._outcome(await self._core.tasks.wait(task, 0))
        shown = {"task_id": task.id, "status": task.status, "waits_for": task.waits_for}
        why = reason(task)
        return 202, _encode(shown if why is None else shown | {"reason": why})

    async def _read(self, scope: Scope, receive: Receive) -> tuple[Submission, dict[str, str]]:
        """The task in the body, and the trace in the headers."""
        limit = self._config.max_input
        declared, key, trace = b"0", None, {}
        for name, value in scope["headers"]:
            if name == b"content-length":
                declared = value
            elif name == b"idempotency-key":
                key = value.decode("latin-1")
            elif name in TRACE_HEADERS and len(value) <= LONGEST_TRACE:
                trace[name.decode()] = value.decode("latin-1")
        body = await read_chunks(receive, declared, ESCAPED * limit + BESIDES, MAX_INPUT)
        submission = parse(body, _submission, "the task")
        if len(body) > limit and (size := len(submission.input.encode())) > limit:
            raise too_large(size, limit)
        if key is not None:
            _check_key(key)
            if submission.task_id is None:
                submission.task_id = id_from(scope["path"], key)
        return submission, trace


class Front:
    """An ASGI application that takes the hot routes itself and leaves all else to another one."""

    def __init__(self, hot: Hot, app: ASGIApp) -> None:
        self._hot = hot
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._route(scope) if scope["type"] == "http" else None
        await (route or self._app)(scope, receive, send)

    def _route(self, scope: Scope) -> HotRoute | None:
        match scope["path"].split("/"):
            case ["", "sessions", session_id, "tasks"] if session_id and scope["method"] == "POST":
                scope["path_params"] = {"session_id": session_id}
                return self._hot.submit
            case ["", "sessions", session_id, "tasks", task_id, "result"] if scope["method"] == "GET":
                if session_id and task_id:
                    scope["path_params"] = {"session_id": session_id, "task_id": task_id}
                    return self._hot.result
        return None


def _check_key(key: str) -> None:
    if not 0 < len(key) <= MAX_KEY:
        raise InvalidInput(f"Idempotency-Key must have 1 to {MAX_KEY} characters")


def _wait(scope: Scope, most: float) -> float | None:
    """The ``wait`` of the query in seconds, at most ``most``; None when it is not given."""
    query: bytes = scope["query_string"]
    if not query:
        return None
    if query.startswith(WAIT) and query[len(WAIT) :].isdigit():  # as our clients ask
        return min(float(query[len(WAIT) :]), most)
    check_query(query)
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("wait")
    if given is None:
        return None
    try:
        seconds = float(given[-1])
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidInput(f"wait must be a number of seconds of at least 0, not {given[-1][:40]!r}")
    return min(seconds, most)
