"""A control plane in the client's own event loop is asked without a connection, and otherwise like any other."""

import asyncio
import json
from typing import Any

import pytest
from opentelemetry import trace

from arriero.client import AsyncLlamaDeployClient, AsyncSessionClient, nearby
from arriero.types.errors import ControlPlaneUnavailable, StoreUnavailable, UnknownSession, WaitTimeout
from arriero.types.settings import ControlPlaneConfig
from tests.unit.client.plane import answer_of, free_port, result
from tests.unit.client.spans import CONTEXT, Recording


class App:
    """An ASGI application that gives its answers in turn, the last one for ever."""

    def __init__(self, *answers: tuple[int, Any] | Exception | None) -> None:
        self._answers = list(answers)
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.bodies.append((await receive())["body"])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        status, value = answer
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})


@pytest.fixture
def config() -> ControlPlaneConfig:
    return ControlPlaneConfig(port=free_port())


async def test_a_run_needs_no_connection(config: ControlPlaneConfig) -> None:
    app = App((200, result("T", "hello")))
    with nearby.announced(config.url, app):
        assert await AsyncSessionClient(config, "a b").run("svc", name="ü") == "hello"
    (scope,) = app.scopes
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/sessions/a b/tasks", b"wait=5")
    task = json.loads(app.bodies[0])
    assert json.loads(task["input"]) == {"name": "ü"}
    headers = dict(scope["headers"])
    assert headers[b"idempotency-key"].decode() == task["task_id"]
    assert headers[b"content-length"] == str(len(app.bodies[0])).encode()
    assert b"traceparent" not in headers


async def test_the_trace_is_carried(config: ControlPlaneConfig) -> None:
    app = App((200, result("T")))
    with nearby.announced(config.url, app), trace.use_span(Recording(CONTEXT)):
        await AsyncSessionClient(config, "S").run("svc")
    assert dict(app.scopes[0]["headers"])[b"traceparent"].startswith(b"00-")


async def test_it_is_asked_again_when_it_says_so_and_not_when_its_error_is_final(config: ControlPlaneConfig) -> None:
    busy = answer_of(StoreUnavailable("the disk is full", retry_after=0.01))
    app = App(busy, (202, {"task_id": "T", "status": "queued"}), (200, result("T", "hello")))
    with nearby.announced(config.url, app):
        assert await AsyncSessionClient(config, "S").run("svc") == "hello"
    assert len(app.scopes) == 3
    with nearby.announced(config.url, App(answer_of(UnknownSession("no")))), pytest.raises(UnknownSession):
        await AsyncLlamaDeployClient(config).get_session("S")


async def test_one_that_does_not_answer_is_not_waited_for_beyond_the_limit(config: ControlPlaneConfig) -> None:
    with nearby.announced(config.url, App(None)):
        with pytest.raises(WaitTimeout):
            await AsyncSessionClient(config, "S", timeout=0.05).run("svc")
        with pytest.raises(ControlPlaneUnavailable):
            await AsyncLlamaDeployClient(config, timeout=0.05).list_sessions()


async def test_what_it_raises_instead_of_answering_is_raised(config: ControlPlaneConfig) -> None:
    with nearby.announced(config.url, App(ZeroDivisionError("its own fault"))), pytest.raises(ZeroDivisionError):
        await AsyncLlamaDeployClient(config).list_sessions()


async def test_cancelling_a_call_ends_it_at_once(config: ControlPlaneConfig) -> None:
    with nearby.announced(config.url, App(None)), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await AsyncSessionClient(config, "S", timeout=None).run("svc")


async def test_it_is_found_only_while_it_is_announced_and_only_in_its_own_loop(config: ControlPlaneConfig) -> None:
    with nearby.announced(config.url, App((200, {}))):
        assert nearby.find(config.url) is not None
        assert nearby.find("http://127.0.0.1:1") is None
        assert await asyncio.to_thread(lambda: asyncio.run(find(config.url))) is None
    assert nearby.find(config.url) is None


async def find(url: str) -> nearby.Nearby | None:
    return nearby.find(url)
