"""The asynchronous session client against a real server."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from arriero.client import AsyncSessionClient, ClientSettings, transport
from arriero.client.caller import AsyncCaller
from arriero.client.session import Session
from arriero.types.errors import (
    ArrieroError,
    ControlPlaneUnavailable,
    ErrorInfo,
    InvalidInput,
    NotJSON,
    ProtocolError,
    StoreUnavailable,
    TaskFailed,
    TaskTimedOut,
    Unauthorized,
    UnknownService,
    WaitTimeout,
)
from arriero.types.history import TaskHistory
from arriero.types.ids import generate_token
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskDefinition, TaskStatus
from tests.unit.client.plane import Call, Plane, free_port, result
from tests.unit.client.spans import CONTEXT, Recording


async def hello(call: Call) -> None:
    call.result("hello")


async def never(call: Call) -> None:
    await call.gone.wait()


def in_turn(*answers: Callable[[Call], Awaitable[None]]) -> Callable[[Call], Awaitable[None]]:
    """The first request gets the first answer, and so on."""
    left = iter(answers)

    async def answer(call: Call) -> None:
        await next(left)(call)

    return answer


def session(plane: Plane, timeout: float | None = 20.0, **settings: Any) -> AsyncSessionClient:
    return AsyncSessionClient(plane.config, "S", timeout, settings=ClientSettings(**settings))


async def test_a_run_is_one_request() -> None:
    async with Plane(hello) as plane:
        assert await session(plane, timeout=120.0).run("svc", name="x", n=1) == "hello"
    (call,) = plane.calls
    assert (call.method, call.target) == ("POST", "/sessions/S/tasks?wait=5")
    assert json.loads(call.json["input"]) == {"name": "x", "n": 1}
    assert call.json["service_id"] == "svc"
    assert call.json["session_id"] == "S"
    assert call.headers["idempotency-key"] == call.json["task_id"]
    assert call.headers["content-type"] == "application/json"
    assert "traceparent" not in call.headers


async def test_clients_one_after_the_other_share_one_connection() -> None:
    async with Plane(hello) as plane:
        for _ in range(5):
            await session(plane).run("svc")
        assert (len(plane.calls), plane.connections) == (5, 1)


async def test_a_result_that_takes_longer_is_waited_for_in_further_requests() -> None:
    async def later(call: Call) -> None:
        call.later()

    async def not_yet(call: Call) -> None:
        call.reply(None, 202)

    async def ended(call: Call) -> None:
        call.reply(result("T", "at last"))

    async with Plane(in_turn(later, not_yet, ended)) as plane:
        assert await session(plane).run("svc") == "at last"
    task_id = plane.calls[0].json["task_id"]
    assert [call.path for call in plane.calls[1:]] == [f"/sessions/S/tasks/{task_id}/result"] * 2
    assert all(0 < float(call.query["wait"]) <= 20 for call in plane.calls)


@pytest.mark.parametrize(("status", "cls"), [("failed", TaskFailed), ("timed_out", TaskTimedOut)])
async def test_a_task_that_does_not_succeed_raises(status: str, cls: type[TaskFailed]) -> None:
    error = {"code": cls.code, "type": "ValueError", "message": "no such luck"}

    async def ended(call: Call) -> None:
        call.reply(result(call.json["task_id"], "no such luck", status, error))

    async with Plane(ended) as plane:
        with pytest.raises(cls, match="ValueError: no such luck") as caught:
            await session(plane).run("svc")
    assert caught.value.task_id == plane.calls[0].json["task_id"]
    assert caught.value.error == ErrorInfo(code=cls.code, type="ValueError", message="no such luck")


async def test_arguments_that_are_not_json_are_refused_before_anything_is_sent() -> None:
    async with Plane(hello) as plane:
        for value in (float("nan"), object(), b"x"):
            with pytest.raises(NotJSON):
                await session(plane).run("svc", value=value)
            with pytest.raises(NotJSON):
                await session(plane).run_nowait("svc", value=value)
        assert plane.connections == 0


@pytest.mark.parametrize("timeout", [0.0, 0.2])
async def test_a_run_ends_with_its_limit_while_the_task_goes_on(timeout: float) -> None:
    async def wait(call: Call) -> None:
        try:
            async with asyncio.timeout(float(call.query["wait"])):
                await call.gone.wait()
        except TimeoutError:
            call.later()

    async with Plane(wait) as plane:
        with pytest.raises(WaitTimeout, match=f"{timeout:g} s") as caught:
            await session(plane, timeout).run("svc")
        assert caught.value.details["task_id"] == plane.calls[0].json["task_id"]
        assert caught.value.details["task_id"] in str(caught.value)
        assert isinstance(caught.value, asyncio.TimeoutError)


async def test_a_control_plane_that_says_nothing_is_a_timeout_too() -> None:
    async with Plane(never) as plane:
        with pytest.raises(WaitTimeout):
            await session(plane, 0.1).run("svc")
        with pytest.raises(ControlPlaneUnavailable, match="does not answer in time"):
            await session(plane, 0.1).get_tasks()


async def test_an_answer_that_does_not_come_is_asked_for_again() -> None:
    async def tasks(call: Call) -> None:
        call.reply([])

    async with Plane(in_turn(never, tasks)) as plane:
        assert await session(plane, None, answer_timeout=0.1).get_tasks() == []


async def test_a_control_plane_that_comes_later_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    refused = asyncio.Event()
    caplog.set_level(logging.DEBUG, "arriero.client")
    handler = Heard(refused)
    logging.getLogger("arriero.client").addHandler(handler)
    plane = Plane(hello)
    plane.port = free_port()
    try:
        runs = [asyncio.create_task(session(plane).run("svc")) for _ in range(10)]
        await refused.wait()
        async with plane:
            assert await asyncio.gather(*runs) == ["hello"] * 10
    finally:
        logging.getLogger("arriero.client").removeHandler(handler)


class Heard(logging.Handler):
    """Sets an event when something of at least a level is logged."""

    def __init__(self, event: asyncio.Event, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        self._event.set()


async def test_a_long_wait_for_it_is_told_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    told = asyncio.Event()
    handler = Heard(told, logging.WARNING)
    logging.getLogger("arriero.client").addHandler(handler)
    plane = Plane(hello)
    plane.port = free_port()
    try:
        runs = [asyncio.create_task(session(plane).run("svc")) for _ in range(10)]
        await told.wait()
        async with plane:
            await asyncio.gather(*runs)
    finally:
        logging.getLogger("arriero.client").removeHandler(handler)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert plane.config.url in warning
    assert "connection refused" in warning.lower()
    assert "20 s" in warning


async def test_one_that_never_comes_is_unavailable_after_the_limit() -> None:
    port = free_port()
    client = AsyncSessionClient(ControlPlaneConfig(port=port), "S", timeout=0.2)
    for call in (
        client.run("svc"),
        client.get_tasks(),
        client.get_task_result("T"),
        anext(client.get_task_result_stream("T")),
    ):
        with pytest.raises(ControlPlaneUnavailable, match=f"http://127.0.0.1:{port}") as caught:
            await call
        assert isinstance(caught.value, ConnectionError)
        assert "refused" in str(caught.value)


async def test_a_connection_dropped_in_mid_answer_repeats_the_same_task() -> None:
    async def half(call: Call) -> None:
        call.send(b'{"task_id":', declared=1000)
        call.drop()

    async def nothing(call: Call) -> None:
        call.drop()

    async with Plane(in_turn(half, nothing, hello)) as plane:
        assert await session(plane).run("svc") == "hello"
    assert len({call.json["task_id"] for call in plane.calls}) == 1
    assert len({call.headers["idempotency-key"] for call in plane.calls}) == 1
    assert len({call.body for call in plane.calls}) == 1


async def test_a_restart_in_mid_wait_loses_nothing() -> None:
    asked = asyncio.Event()

    async def hold(call: Call) -> None:
        asked.set()
        await call.gone.wait()

    async with Plane(hold) as plane:
        run = asyncio.create_task(session(plane).run("svc"))
        await asked.wait()
        await plane.stop()
        plane.answer = hello
        await plane.start()
        assert await run == "hello"
    assert len({call.json["task_id"] for call in plane.calls}) == 1


async def test_an_idle_connection_that_was_closed_meanwhile_is_not_noticed() -> None:
    async with Plane(hello) as plane:
        client = session(plane)
        for _ in range(3):
            await client.run("svc")
            await plane.stop()
            await plane.start()
        assert plane.connections == 3


async def test_a_busy_control_plane_is_asked_again() -> None:
    async def busy(call: Call) -> None:
        call.refuse(StoreUnavailable("the disk is full", retry_after=0.01))

    async def gateway(call: Call) -> None:
        call.send(b"<h1>Bad Gateway</h1>", 502, "text/html")

    async with Plane(in_turn(busy, gateway, hello)) as plane:
        assert await session(plane).run("svc") == "hello"


@pytest.mark.parametrize("retry_after", [None, 100.0])
async def test_its_own_error_is_raised_when_there_is_no_point_in_asking_again(retry_after: float | None) -> None:
    async def busy(call: Call) -> None:
        call.refuse(StoreUnavailable("the disk is full", retry_after=retry_after))

    async with Plane(busy) as plane:
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await session(plane).run("svc")
        assert len(plane.calls) == 1


async def test_a_typed_error_is_raised_at_once() -> None:
    async def unknown(call: Call) -> None:
        call.refuse(UnknownService("there is no service 'svc'; there are: a, b"))

    async with Plane(unknown) as plane:
        for call in (session(plane).run("svc"), session(plane).run_nowait("svc")):
            with pytest.raises(UnknownService, match="there are: a, b"):
                await call
        assert len(plane.calls) == 2


@pytest.mark.parametrize(
    ("status", "body", "cls"),
    [
        (200, b"<html>What a nice page</html>", ProtocolError),
        (200, b"", ProtocolError),
        (200, b"\xff\x00\xfe", ProtocolError),
        (500, b"password=hunter2 Traceback", ArrieroError),
        (404, b'{"detail":"Not Found"}', ArrieroError),
    ],
)
async def test_garbage_is_a_typed_error_that_names_the_request(status: int, body: bytes, cls: type[Exception]) -> None:
    async def garbage(call: Call) -> None:
        call.send(body, status)

    async with Plane(garbage) as plane:
        with pytest.raises(cls, match=f"POST /sessions/S/tasks was answered with status {status}") as caught:
            await session(plane).run("svc")
        assert "hunter2" not in str(caught.value)


async def test_redirects_are_not_followed() -> None:
    async def elsewhere(call: Call) -> None:
        call.transport.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

    async with Plane(elsewhere) as plane:
        with pytest.raises(ProtocolError, match="status 307"):
            await session(plane).run("svc")
        assert len(plane.calls) == 1


async def test_a_server_that_does_not_speak_http_is_a_typed_error() -> None:
    async def ssh(call: Call) -> None:
        call.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async with Plane(ssh) as plane:
        with pytest.raises(ProtocolError, match="does not speak HTTP"):
            await session(plane).run("svc")


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as the system lets this process have."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 8192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_runs_wait_at_the_same_time() -> None:
    everyone = asyncio.Event()
    waiting: set[str] = set()

    async def wait_for_everyone(call: Call) -> None:
        waiting.add(call.json["task_id"])
        if len(waiting) == 1000:
            everyone.set()
        await everyone.wait()
        call.result(json.loads(call.json["input"])["n"])

    async with Plane(wait_for_everyone) as plane:
        client = session(plane, max_connections=1000)
        results = await asyncio.gather(*[client.run("svc", n=str(n)) for n in range(1000)])
        assert results == [str(n) for n in range(1000)]
        assert len(plane.calls) == 1000


async def test_with_fewer_connections_than_runs_they_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task ends only once all are submitted, so a wait that kept its connection would stop everything."""
    monkeypatch.setattr(transport, "CROWDED_WAIT", 0.02)
    submitted: set[str] = set()
    everyone = asyncio.Event()

    async def wait_for_everyone(call: Call) -> None:
        if call.method == "POST":
            submitted.add(call.json["task_id"])
        if len(submitted) == 20:
            everyone.set()
        try:
            async with asyncio.timeout(float(call.query["wait"])):
                await everyone.wait()
        except TimeoutError:
            call.later()
        else:
            call.reply(result("T", "done"))

    async with Plane(wait_for_everyone) as plane:
        client = session(plane, max_connections=2)
        assert await asyncio.gather(*[client.run("svc") for _ in range(20)]) == ["done"] * 20
        assert plane.connections == 2


async def test_a_call_that_gets_no_connection_says_so() -> None:
    asked = asyncio.Event()

    async def hold(call: Call) -> None:
        asked.set()
        await call.gone.wait()

    async with Plane(hold) as plane:
        run = asyncio.create_task(session(plane, None, max_connections=1).run("svc"))
        await asked.wait()
        with pytest.raises(ControlPlaneUnavailable, match="ARRIERO_CLIENT_MAX_CONNECTIONS"):
            await session(plane, 0.2, max_connections=1).get_tasks()
        run.cancel()


async def test_cancelling_a_run_ends_it_at_once_and_closes_its_connection() -> None:
    asked: asyncio.Future[Call] = asyncio.get_running_loop().create_future()

    async def hold(call: Call) -> None:
        asked.set_result(call)
        await call.gone.wait()

    async with Plane(hold) as plane:
        client = session(plane)
        run = asyncio.create_task(client.run("svc"))
        call = await asked
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await call.gone.wait()
        plane.answer = hello
        assert await client.run("svc") == "hello"


async def test_cancelling_a_run_that_waits_for_the_control_plane_ends_it_at_once() -> None:
    run = asyncio.create_task(AsyncSessionClient(ControlPlaneConfig(port=free_port()), "S", None).run("svc"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await run
    assert run.cancelled()


async def test_a_run_within_a_recorded_span_carries_its_trace() -> None:
    async with Plane(hello) as plane:
        with trace.use_span(Recording(CONTEXT)):
            await session(plane).run("svc")
        assert plane.calls[0].headers["traceparent"].startswith(f"00-{CONTEXT.trace_id:032x}-")


async def test_run_nowait_gives_the_id_under_which_the_task_is_stored() -> None:
    async def stored(call: Call) -> None:
        call.reply(call.json["task_id"])

    async with Plane(stored) as plane:
        task_id = await session(plane).run_nowait("svc", a=1)
        assert plane.calls[0].target == "/sessions/S/tasks"
        assert plane.calls[0].json["task_id"] == task_id


async def test_a_task_is_created_in_this_session_under_its_own_id_or_that_of_a_key() -> None:
    async def stored(call: Call) -> None:
        call.reply(call.json["task_id"])

    async with Plane(stored) as plane:
        client = session(plane)
        task = TaskDefinition(input="x", agent_id="svc", task_id="mine", session_id="another")
        assert await client.create_task(task) == "mine"
        assert task.session_id == "S"
        body = {"input": "x", "task_id": "mine", "session_id": "S", "service_id": "svc"}
        assert plane.calls[0].json == body
        ids = [await client.create_task(TaskDefinition(input="x"), idempotency_key="k") for _ in range(2)]
        assert ids[0] == ids[1]


async def test_every_request_that_was_sent_with_an_older_token_is_sent_again_with_the_new_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "state.db.token"
    monkeypatch.setenv("CONTROL_PLANE_STATE_STORE_URI", f"sqlite:///{tmp_path}/state.db")
    old, new, both = generate_token(), generate_token(), asyncio.Event()

    async def answer(call: Call) -> None:
        if call.headers["authorization"] == f"Bearer {new}":
            call.result("hello")
            return
        if len(plane.calls) == 2:
            _write_private(file, new)
            both.set()
        await both.wait()
        call.refuse(Unauthorized("another token"))

    _write_private(file, old)
    async with Plane(answer) as plane:
        client = session(plane, token=None)
        assert await asyncio.gather(client.run("svc"), client.run("svc")) == ["hello", "hello"]
        assert len(plane.calls) == 4


def _write_private(file: Path, text: str) -> None:
    file.touch(0o600)
    file.write_text(text)


async def test_a_call_with_a_limit_of_its_own_leaves_no_connection_when_its_client_is_closed() -> None:
    async with Plane(hello) as plane:
        async with session(plane) as client:
            assert await client.call("svc", timeout=5.0) == "hello"
            (connection,) = plane.open
        async with asyncio.timeout(5):
            await connection.gone.wait()


async def test_the_pages_of_a_history_have_one_limit_together() -> None:
    class Paged(AsyncCaller):
        since: list[float | None] = []  # noqa: RUF012  # of one test

        async def call(self, request: Any, since: float | None = None) -> Any:
            self.since.append(since)
            following = 1 if len(self.since) == 1 else None
            return TaskHistory(
                task_id="T",
                session_id="S",
                service="svc",
                status=TaskStatus.COMPLETED,
                created_at=0.0,
                following=following,
            )

    caller = Paged("http://127.0.0.1:1", 1.0)
    await Session(caller, "S").history("T")
    assert len(caller.since) == 2
    assert None not in caller.since
    assert len(set(caller.since)) == 1


async def test_tasks_and_results_are_documented_models() -> None:
    async def answer(call: Call) -> None:
        task = {"input": "x", "task_id": "T", "status": "failed", "error": {"code": "task_failed", "message": "no"}}
        answers = {
            "/sessions/S/tasks": [task],
            "/sessions/S/current_task": task,
            "/sessions/S/tasks/T/result": result("T", "no", "failed", task["error"]),
            "/sessions/S/tasks/U/result": None,
        }
        call.reply(answers[call.target])

    async with Plane(answer) as plane:
        client = session(plane)
        assert [task.task_id for task in await client.get_tasks()] == ["T"]
        current = await client.get_current_task()
        assert current is not None
        assert current.status == "failed"
        failed = await client.get_task_result("T")
        assert failed is not None
        assert (failed.status, failed.error) == ("failed", {"code": "task_failed", "message": "no"})
        assert await client.get_task_result("U") is None


@pytest.mark.parametrize("session_id", ["", "..", "a/b", "a\0"])
def test_a_session_id_that_cannot_be_sent_is_refused(session_id: str) -> None:
    with pytest.raises(InvalidInput, match="session id"):
        AsyncSessionClient(ControlPlaneConfig(), session_id)
