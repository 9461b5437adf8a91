"""What a control plane refuses: each answer is an error with its status, its code and what would be right."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from arriero import FunctionService
from tests.scenarios.flows import double
from tests.scenarios.shapes import refused
from tests.scenarios.system import Http, at_work, control_plane, task

# One control plane for all of them: nothing of what is refused is kept.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Http]:
    async with (
        control_plane(tmp_path_factory.mktemp("refusals"), max_input=1000) as server,
        at_work(FunctionService(double, server.message_queue, service_name="double"), server.url),
        Http(server.url) as http,
    ):
        yield http


@pytest_asyncio.fixture(loop_scope="module")
async def session(http: Http) -> str:
    status, session_id = await http.post("/sessions/create")
    assert status == 200
    return session_id


@pytest.mark.parametrize(
    "definition", [{}, {"service_name": "s"}, {"service_name": "a/b", "description": "d"}, {"service_name": 1}, [], "s"]
)
async def test_a_definition_that_is_wrong_is_refused(http: Http, definition: Any) -> None:
    refused(await http.post("/services/register", definition), 422, "invalid_input")


@pytest.mark.parametrize("state", [[], "text", 1, None])
async def test_a_state_that_is_no_object_is_refused(http: Http, session: str, state: Any) -> None:
    refused(await http.post(f"/sessions/{session}/state", state), 422, "invalid_input")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", "/delete"),
        ("GET", "/state"),
        ("POST", "/state"),
        ("GET", "/tasks"),
        ("POST", "/tasks"),
        ("GET", "/current_task"),
    ],
)
async def test_a_session_that_is_not_there_is_named(http: Http, method: str, path: str) -> None:
    body = task("double") if path == "/tasks" else {}
    options = {"json": body} if method == "POST" else {}
    refused(await http.ask(method, f"/sessions/nowhere{path}", **options), 404, "unknown_session", "nowhere")


@pytest.mark.parametrize("wait", ["-1", "soon", "nan", "inf", ""])
async def test_a_wait_that_is_no_number_of_seconds_is_refused(http: Http, session: str, wait: str) -> None:
    refused(await http.post(f"/sessions/{session}/tasks?wait={wait}", task("double")), 422, "invalid_input", "wait")


async def test_an_unknown_task_is_named_and_so_is_one_of_another_session(http: Http, session: str) -> None:
    _, task_id = await http.post(f"/sessions/{session}/tasks", task("double", '{"x": 1}'))
    _, other = await http.post("/sessions/create")
    for path in ("", "/result", "/result_stream", "/events"):
        refused(await http.get(f"/sessions/{session}/tasks/nothing{path}"), 404, "unknown_task", "nothing")
        refused(await http.get(f"/sessions/{other}/tasks/{task_id}{path}"), 404, "unknown_task", task_id)


async def test_a_task_that_is_to_be_cancelled_is_known_by_its_session(http: Http, session: str) -> None:
    _, task_id = await http.post(f"/sessions/{session}/tasks", task("double", '{"x": 1}'))
    _, other = await http.post("/sessions/create")
    refused(await http.post(f"/sessions/{session}/tasks/nothing/cancel", {}), 404, "unknown_task", "nothing")
    refused(await http.post(f"/sessions/{other}/tasks/{task_id}/cancel", {}), 404, "unknown_task", task_id)
    refused(await http.post(f"/sessions/nowhere/tasks/{task_id}/cancel", {}), 404, "unknown_session", "nowhere")


@pytest.mark.parametrize("body", [[], "because", {"reason": 1}, {"reason": "x" * 1001}])
async def test_a_reason_that_is_no_short_text_is_refused(http: Http, session: str, body: Any) -> None:
    _, task_id = await http.post(f"/sessions/{session}/tasks", task("double", '{"x": 1}'))
    path = f"/sessions/{session}/tasks/{task_id}/cancel"
    refused(await http.post(path, body), 422, "invalid_input", "the cancellation")


async def test_a_task_of_another_session_is_a_wrong_definition(http: Http, session: str) -> None:
    answer = await http.post(f"/sessions/{session}/tasks", task("double", session_id="elsewhere"))
    refused(answer, 422, "invalid_input", "elsewhere", session)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "input"),
        ({"input": 1, "service_id": "double"}, "input"),
        ({"input": "{}"}, "service_id"),
        ({"input": "{}", "service_id": "double", "agent_id": "gate"}, "different services"),
        ({"input": "{}", "service_id": "double", "deadline": -1}, "deadline"),
        ({"input": "{}", "service_id": "double", "task_id": "a/b"}, "task_id"),
        ({"input": "{}", "service_id": "double", "task_id": "x" * 200}, "task_id"),
        ([], "object"),
    ],
)
async def test_a_task_that_is_wrong_is_refused_by_the_field(http: Http, session: str, body: Any, word: str) -> None:
    refused(await http.post(f"/sessions/{session}/tasks", body), 422, "invalid_input", word)


async def test_what_is_no_json_is_refused(http: Http, session: str) -> None:
    for body in (b"", b"null", b"{", b"\xff", b'{"input": "{}", "service_id": "double"} and more'):
        refused(await http.ask("POST", f"/sessions/{session}/tasks", data=body), 422, "invalid_input")


async def test_an_input_beyond_the_limit_is_refused_with_the_limit(http: Http, session: str) -> None:
    answer = await http.post(f"/sessions/{session}/tasks", task("double", "x" * 1001))
    refused(answer, 413, "payload_too_large", "1001 bytes", "1000 bytes", "max_input")
    answer = await http.post(f"/sessions/{session}/tasks", task("double", "x" * 1_000_000))
    refused(answer, 413, "payload_too_large", "max_input")
    assert await http.get(f"/sessions/{session}/tasks") == (200, [])


@pytest.mark.parametrize("action", [None, "new_tool_call", "request_for_help"])
async def test_a_message_that_asks_for_something_else_is_refused(http: Http, action: str | None) -> None:
    message = {"type": "control_plane", "action": action, "data": {}}
    refused(await http.post("/process_message", message), 422, "invalid_input", "new_task", "task_stream")


@pytest.mark.parametrize("action", ["new_task", "completed_task", "task_stream"])
async def test_a_message_with_wrong_data_is_refused(http: Http, action: str) -> None:
    message = {"type": "control_plane", "action": action, "data": {"session_id": 1}}
    refused(await http.post("/process_message", message), 422, "invalid_input")
