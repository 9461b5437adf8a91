import json
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.client import requests
from arriero.client.answers import Ended
from arriero.client.requests import Request, Submission
from arriero.types.errors import InvalidInput, ProtocolError
from arriero.types.ids import id_from
from arriero.types.services import ServiceDefinition
from arriero.types.tasks import EventDefinition, TaskDefinition, TaskStatus

TASK = Submission(input='{"a": 1}', task_id="T", session_id="S", service_id="svc")
SERVICE = ServiceDefinition(service_name="svc", description="d")


@pytest.mark.parametrize(
    ("request_", "method", "target", "body"),
    [
        (requests.create_session(), "POST", "/sessions/create", None),
        (requests.create_session("S"), "POST", "/sessions/create", {"session_id": "S"}),
        (requests.get_session("S"), "GET", "/sessions/S", None),
        (requests.list_sessions(), "GET", "/sessions", None),
        (requests.delete_session("S"), "POST", "/sessions/S/delete", None),
        (requests.get_state("S"), "GET", "/sessions/S/state", None),
        (requests.update_state("S", b'{"a":1}'), "POST", "/sessions/S/state", {"a": 1}),
        (
            requests.submit(TASK),
            "POST",
            "/sessions/S/tasks",
            {"input": '{"a": 1}', "task_id": "T", "session_id": "S", "service_id": "svc"},
        ),
        (
            requests.submit_and_wait(TASK, 30.0),
            "POST",
            "/sessions/S/tasks?wait=30",
            {"input": '{"a": 1}', "task_id": "T", "session_id": "S", "service_id": "svc"},
        ),
        (requests.await_end("S", "T", 0.25), "GET", "/sessions/S/tasks/T/result?wait=0.25", None),
        (requests.get_result("S", "T"), "GET", "/sessions/S/tasks/T/result", None),
        (requests.get_task("S", "T"), "GET", "/sessions/S/tasks/T", None),
        (requests.list_tasks("S"), "GET", "/sessions/S/tasks", None),
        (requests.current_task("S"), "GET", "/sessions/S/current_task", None),
        (requests.cancel("S", "T"), "POST", "/sessions/S/tasks/T/cancel", None),
        (requests.cancel("S", "T", "late"), "POST", "/sessions/S/tasks/T/cancel", {"reason": "late"}),
        (
            requests.send_event("S", "T", EventDefinition(service_id="svc", event_obj_str="{}")),
            "POST",
            "/sessions/S/tasks/T/send_event",
            {"service_id": "svc", "event_obj_str": "{}"},
        ),
        (requests.list_sessions("S1"), "GET", "/sessions?after=S1", None),
        (requests.list_tasks("S", "a%20b"), "GET", "/sessions/S/tasks?after=a%20b", None),
        (requests.task_events("S", "T"), "GET", "/sessions/S/tasks/T/events", None),
        (requests.register_service(SERVICE), "POST", "/services/register", SERVICE.model_dump()),
        (requests.deregister_service("a b&c"), "POST", "/services/deregister?service_name=a+b%26c", None),
        (requests.get_service("svc"), "GET", "/services/svc", None),
        (requests.list_services(), "GET", "/services", None),
        (requests.queue_config(), "GET", "/queue_config", None),
    ],
)
def test_each_request_is_the_documented_one(request_: Request[Any], method: str, target: str, body: Any) -> None:
    assert (request_.method, request_.target) == (method, target)
    assert (None if request_.body is None else json.loads(request_.body)) == body
    assert (request_.headers.get("Content-Type") == "application/json") == (body is not None)


@pytest.mark.shows("accept.client-keys")
def test_a_submission_carries_its_task_id_as_its_idempotency_key() -> None:
    assert requests.submit(TASK).headers["Idempotency-Key"] == "T"
    assert requests.submit_and_wait(TASK, 1).headers["Idempotency-Key"] == "T"


def test_every_created_session_has_a_key_of_its_own() -> None:
    keys = {requests.create_session().headers["Idempotency-Key"] for _ in range(10)}
    assert len(keys) == 10


def test_every_sent_event_has_a_key_of_its_own_unless_one_is_given() -> None:
    event = EventDefinition(service_id="svc", event_obj_str="{}")
    assert len({requests.send_event("S", "T", event).headers["Idempotency-Key"] for _ in range(10)}) == 10
    assert requests.send_event("S", "T", event, "mine").headers["Idempotency-Key"] == "mine"
    with pytest.raises(InvalidInput, match="idempotency key"):
        requests.send_event("S", "T", event, "")


def test_a_task_definition_is_sent_with_its_deadline_and_headers_and_nothing_that_the_server_decides() -> None:
    task = TaskDefinition(
        input="x", task_id="T", service_id="svc", deadline=2.5, headers={"traceparent": "00-1"}, status=TaskStatus.DEAD
    )
    body = json.loads(requests.submit(Submission.of(task, "S")).body or b"")
    assert body == {
        "input": "x",
        "task_id": "T",
        "session_id": "S",
        "service_id": "svc",
        "deadline": 2.5,
        "headers": {"traceparent": "00-1"},
    }


def test_a_stream_resumes_behind_the_event_that_was_seen_last() -> None:
    assert "Last-Event-ID" not in requests.task_events("S", "T").headers
    assert requests.task_events("S", "T", "17").headers["Last-Event-ID"] == "17"


@pytest.mark.shows("accept.kept")
def test_an_idempotency_key_always_gives_the_task_id_that_the_control_plane_would_give() -> None:
    assert requests.new_task_id("S", "key") == requests.new_task_id("S", "key") == id_from("/sessions/S/tasks", "key")
    assert requests.new_task_id("S") != requests.new_task_id("S")


@pytest.mark.parametrize("key", ["", "a\r\nX: y", "k" * 256])
def test_an_idempotency_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="idempotency key"):
        requests.new_task_id("S", key)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", "a\nb", "\u202ex", "\ud800", "x" * 90 + "/"]
)
def test_an_id_that_would_change_the_route_is_refused_before_anything_is_sent(name: str) -> None:
    with pytest.raises(InvalidInput, match="must be printable"):
        requests.get_session(name)
    with pytest.raises(InvalidInput, match="must be printable"):
        requests.get_result("S", name)
    with pytest.raises(InvalidInput, match="must be printable"):
        requests.get_service(name)


@given(st.text(min_size=1))
def test_an_id_either_stays_one_segment_of_its_path_or_is_refused(name: str) -> None:
    try:
        path = requests.get_task("S", name).path
    except InvalidInput:
        return
    assert path.startswith("/sessions/S/tasks/")
    assert path.count("/") == 4
    assert path.isascii()
    assert not set("?#\\ \r\n") & set(path)
    assert unquote(path).endswith(f"/{name}")
    assert name not in (".", "..")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_service_name_travels_in_a_query(name: str) -> None:
    query = requests.deregister_service(name).query
    assert parse_qs(query, keep_blank_values=True) == {"service_name": [name]}


def test_a_service_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="service name"):
        requests.deregister_service("\ud800")


SESSION = b'{"session_id":"S","task_ids":["T"],"state":{"a":1}}'


@pytest.mark.parametrize(
    ("request_", "body", "result"),
    [
        (requests.create_session(), b'"S"', "S"),
        (requests.submit(TASK), b'"T"', "T"),
        (requests.delete_session("S"), b"null", None),
        (requests.delete_session("S"), b"", None),
        (requests.get_state("S"), b'{"a":[1]}', {"a": [1]}),
        (requests.current_task("S"), b"null", None),
        (requests.get_result("S", "T"), b"null", None),
        (requests.await_end("S", "T", 1), b"null", None),
        (requests.submit_and_wait(TASK, 1), b'{"task_id":"T","status":"queued"}', Ended("T", TaskStatus.QUEUED)),
        (requests.list_tasks("S"), b"[]", []),
        (requests.register_service(SERVICE), b"null", None),
        (requests.register_service(SERVICE), b'{"port":8000}', {"port": 8000}),
        (requests.queue_config(), b'{"SimpleMessageQueueConfig":{}}', {"SimpleMessageQueueConfig": {}}),
    ],
)
def test_the_body_of_a_success_is_the_result(request_: Request[Any], body: bytes, result: Any) -> None:
    assert request_.parse(200, body) == result


def test_documented_models_are_built_from_their_json() -> None:
    assert requests.get_session("S").parse(200, SESSION).current_task_id == "T"
    assert requests.list_sessions().parse(200, b'{"S":%s}' % SESSION)[0].state == {"a": 1}
    assert requests.get_service("svc").parse(200, SERVICE.model_dump_json().encode()) == SERVICE
    assert requests.list_services().parse(200, b'{"svc":%s}' % SERVICE.model_dump_json().encode()) == {"svc": SERVICE}
    task = b'{"input":"x","task_id":"T","agent_id":"svc","status":"running","attempts":1}'
    assert requests.get_task("S", "T").parse(200, task).service_id == "svc"
    assert [task.status for task in requests.list_tasks("S").parse(200, b"[%s]" % task)] == ["running"]
    current = requests.current_task("S").parse(200, task)
    assert current is not None
    assert current.task_id == "T"


def test_a_bare_documented_result_counts_as_success() -> None:
    body = b'{"task_id":"T","history":[{"role":"user","content":"hi"}],"result":"hello","data":{}}'
    ended = requests.await_end("S", "T", 1).parse(200, body)
    assert ended is not None
    assert ended.text() == "hello"
    result = requests.get_result("S", "T").parse(200, body)
    assert result is not None
    assert (result.result, result.status, result.history[0].content) == ("hello", "completed", "hi")


@pytest.mark.parametrize(
    "request_",
    [
        requests.create_session(),
        requests.get_session("S"),
        requests.delete_session("S"),
        requests.submit_and_wait(TASK, 1),
        requests.get_result("S", "T"),
        requests.list_services(),
    ],
)
@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[" * 100_000, b"\xff\xfe", b'{"task_id":', b'["x",1]', b"17"]
)
def test_a_success_that_cannot_be_read_is_a_typed_error_with_an_excerpt(request_: Request[Any], body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        request_.parse(200, body)
    assert request_.path in str(caught.value)
    assert len(str(caught.value)) < 500
