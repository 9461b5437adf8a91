import json
from typing import Any

import pytest

from arriero.client import requests
from arriero.client.answers import Ended, end_error, excerpt, refusal
from arriero.types.errors import (
    ERRORS,
    TASK_ERRORS,
    ArrieroError,
    Conflict,
    ControlPlaneUnavailable,
    ErrorInfo,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    ProtocolError,
    TaskError,
    TaskFailed,
)
from arriero.types.tasks import TaskStatus
from tests.unit.client.plane import answer_of


@pytest.mark.parametrize("cls", ERRORS.values(), ids=lambda cls: cls.__name__)
def test_every_error_comes_back_as_the_class_that_it_was(cls: type[ArrieroError]) -> None:
    sent = cls("what happened") if issubclass(cls, TaskError) else cls("what happened", retry_after=1.5, name="x")
    status, body = answer_of(sent)
    with pytest.raises(cls) as caught:
        requests.get_session("S").parse(status, body)
    assert type(caught.value) is cls
    assert caught.value.message == "what happened"
    if not issubclass(cls, TaskError):
        assert (caught.value.retry_after, caught.value.details) == (1.5, {"name": "x"})


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (302, ProtocolError),
        (400, InvalidInput),
        (401, ProtocolError),
        (404, NotFound),
        (405, ProtocolError),
        (409, Conflict),
        (413, PayloadTooLarge),
        (422, InvalidInput),
        (500, ArrieroError),
        (502, ControlPlaneUnavailable),
        (503, ControlPlaneUnavailable),
        (504, ControlPlaneUnavailable),
    ],
)
@pytest.mark.parametrize(
    "body", [b"<h1>No</h1>", b'{"detail":"No"}', b'{"error":"No"}', b'{"error":{"code":1},"x":"No"}']
)
def test_an_answer_of_another_form_is_sorted_by_its_status(status: int, cls: type[ArrieroError], body: bytes) -> None:
    error = refusal(status, "GET /sessions/S", body)
    assert type(error) is cls
    assert "GET /sessions/S" in str(error)
    assert str(status) in str(error)
    assert "No" in str(error)


def test_what_a_validation_found_is_told_field_by_field() -> None:
    detail = [{"type": "missing", "loc": ["body", "input"], "msg": "Field required", "input": {}}]
    error = refusal(422, "POST /sessions/S/tasks", json.dumps({"detail": detail}).encode())
    assert "body.input: Field required" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:hunter2@host/0",
        '{"password": "hunter2"}',
        "AWS_SECRET_ACCESS_KEY=hunter2",
        "Authorization: Bearer hunter2",
        '{"api_key":"hunter2"}',
        "api-key: hunter2",
        "bearer hunter2",
        "Set-Cookie: session=hunter2",
    ],
)
def test_an_excerpt_shows_no_credentials(text: str) -> None:
    assert "hunter2" not in excerpt(f"failed with {text} and so on".encode())
    assert "hunter2" not in str(refusal(500, "GET /", json.dumps({"detail": text}).encode()))
    assert "hunter2" not in str(refusal(500, "GET /", json.dumps({"detail": {"x": text}}).encode()))


def test_an_excerpt_is_one_short_printable_line() -> None:
    assert excerpt(b"") == "(nothing)"
    assert excerpt(b"a\r\n\t b\x1b[31m\x00") == "a b\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"
    assert len(excerpt(b"x" * 1_000_000)) < 250
    assert excerpt(b"\xff\xfe").isprintable()


def test_a_completed_task_gives_its_text() -> None:
    assert Ended("T", result="hello").text() == "hello"


@pytest.mark.parametrize(("status", "cls"), TASK_ERRORS.items())
def test_a_task_that_ended_otherwise_raises_the_error_of_its_status(status: str, cls: type[TaskError]) -> None:
    info = ErrorInfo(code=cls.code, type="ValueError", message="no such luck")
    with pytest.raises(cls) as caught:
        Ended("T", TaskStatus(status), error=info).text()
    assert caught.value.error == info
    assert caught.value.task_id == "T"
    assert "task T" in str(caught.value)
    assert "ValueError: no such luck" in str(caught.value)


def test_an_end_without_an_error_still_raises() -> None:
    error: Any = end_error("T", TaskStatus.FAILED, None)
    assert type(error) is TaskFailed
    assert error.error is None
