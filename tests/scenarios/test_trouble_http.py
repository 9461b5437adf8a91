"""Requests that are wrong, strange or hostile: each gets a typed answer in time, and the control plane goes on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from arriero import AsyncSessionClient
from arriero.types.errors import PayloadTooLarge, UnknownService, UnknownSession, UnknownTask
from tests.harness import Core, Worker
from tests.scenarios.flows import HERE
from tests.scenarios.raw import Answer, ask, request

MIB = 1024 * 1024
#: A typed answer comes within this time of the fact.
PROMPT = 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shouting(core: Core) -> AsyncIterator[Worker]:
    async with Worker(f"{HERE}:shout", service="shout", core=core) as worker:
        yield worker


@pytest.fixture
async def session(core: Core, shouting: Worker) -> AsyncIterator[AsyncSessionClient]:
    """A session; when the test is over, the control plane still does what it should."""
    async with core.client() as client:
        session = await client.create_session()
        yield session
        assert await session.run("shout", text="on") == "ON"


async def submit(core: Core, session: AsyncSessionClient, body: bytes, **headers: str) -> Answer:
    return await ask(core.port, request("POST", f"/sessions/{session.session_id}/tasks?wait=10", body, **headers))


def refused(answer: Answer, status: int, code: str) -> str:
    """The message of an answer that is this error, in both of its places."""
    assert (answer.status, answer.body["error"]["code"]) == (status, code), answer
    message: str = answer.body["error"]["message"]
    return message


# Names that are not there


async def test_an_unknown_service_is_named_with_those_that_are_known_in_time(session: AsyncSessionClient) -> None:
    began = time.monotonic()
    with pytest.raises(UnknownService, match=r"'shoot'.*shout.*did you mean 'shout'"):
        await session.run("shoot", text="x")
    assert time.monotonic() - began < PROMPT


async def test_an_unknown_session_and_task_are_named(core: Core, session: AsyncSessionClient) -> None:
    client = AsyncSessionClient(core.config, "nowhere")
    with pytest.raises(UnknownSession, match=r"'nowhere'.*/sessions/create"):
        await client.run("shout", text="x")
    with pytest.raises(UnknownTask, match="'nothing'"):
        await session.get_task_result("nothing")
    with pytest.raises(UnknownTask, match="'nothing'"):
        await anext(session.get_task_result_stream("nothing"))


@pytest.mark.parametrize("target", ["/sessions/{}/tasks/x/result?wait=5", "/sessions/{}/tasks/x/events", "/sessions/x"])
async def test_what_is_not_there_is_a_404_in_plain_http(core: Core, session: AsyncSessionClient, target: str) -> None:
    answer = await ask(core.port, request("GET", target.format(session.session_id)))
    assert answer.status == 404
    assert "x" in answer.body["error"]["message"]


@pytest.mark.parametrize(
    "id",
    ["%00", "a%00b", "..", "%2e%2e", ".", "%2f", "a%2fb", "%5c", "%0a", "%ff", "%ed%a0%80", "x" * 5000, "%F0%9F%A6%99"],
)
async def test_ids_of_any_kind_are_not_found_or_refused(core: Core, session: AsyncSessionClient, id: str) -> None:
    for target in (f"/sessions/{id}", f"/sessions/{session.session_id}/tasks/{id}", f"/services/{id}"):
        answer = await ask(core.port, request("GET", target))
        assert answer.status in (200, 307, 404, 422), answer  # what looks like another route is one
    answer = await ask(core.port, request("POST", f"/sessions/{id}/tasks", b'{"input": "{}", "service_id": "shout"}'))
    assert answer.status in (404, 405, 422), answer
    answer = await ask(core.port, request("POST", f"/workers/{id}/renew"))
    assert answer.status in (404, 405, 409), answer


@pytest.mark.parametrize("name", ["", " ", "a\0b", "..", "a/b", "x" * 200, "\ud800", "tab\t"])
async def test_ids_that_cannot_be_are_refused_when_they_are_made(
    core: Core, session: AsyncSessionClient, name: str
) -> None:
    body = json.dumps({"input": '{"text": "x"}', "service_id": "shout", "task_id": name}).encode()
    refused(await submit(core, session, body), 422, "invalid_input")
    made = await ask(core.port, request("POST", "/sessions/create", json.dumps({"session_id": name}).encode()))
    refused(made, 422, "invalid_input")


# Bodies


TASK = b'{"input": "{\\"text\\": \\"x\\"}", "service_id": "shout"'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"   ", id="blank"),
        pytest.param(b"text", id="no JSON"),
        pytest.param(TASK, id="cut off"),
        pytest.param(TASK + b"}}", id="too long"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"service_id": "shout"}', id="no input"),
        pytest.param(b'{"input": {"text": "x"}, "service_id": "shout"}', id="input that is no text"),
        pytest.param(b'{"input": "{}"}', id="no service"),
        pytest.param(TASK + b', "agent_id": "other"}', id="two services"),
        pytest.param(b'{"input": "\xff\xfe", "service_id": "shout"}', id="invalid UTF-8"),
        pytest.param(b'{"input": "\\ud800", "service_id": "shout"}', id="lone surrogate"),
        pytest.param(TASK + b', "deadline": NaN}', id="NaN"),
        pytest.param(TASK + b', "deadline": Infinity}', id="infinity"),
        pytest.param(TASK + b', "deadline": 1e999}', id="beyond floats"),
        pytest.param(TASK + b', "deadline": ' + b"9" * 10_000 + b"}", id="10,000 digits"),
        pytest.param(TASK + b', "deadline": -1}', id="negative deadline"),
        pytest.param(TASK + b', "deadline": 0}', id="no time"),
        pytest.param(TASK + b', "deadline": "1"}', id="deadline that is text"),
        pytest.param(TASK + b', "other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="deep objects"),
        pytest.param(TASK + b', "headers": {"a": 1}}', id="headers that are no text"),
        pytest.param(TASK + b', "session_id": "another"}', id="another session"),
    ],
)
async def test_a_body_that_is_no_task_is_refused(core: Core, session: AsyncSessionClient, body: bytes) -> None:
    refused(await submit(core, session, body), 422, "invalid_input")
    assert await session.get_tasks() == []


@pytest.mark.parametrize(
    "input", ["", "[]", "1", "nonsense", '{"text": NaN}', '{"text": "\\ud800"}', '{"a":' * 100_000]
)
async def test_an_input_that_is_no_object_fails_the_task(core: Core, session: AsyncSessionClient, input: str) -> None:
    answer = await submit(core, session, json.dumps({"input": input, "service_id": "shout"}).encode())
    assert (answer.status, answer.body["status"], answer.body["error"]["code"]) == (200, "failed", "invalid_input")


@pytest.mark.parametrize("text", ["9" * 10_000, "1e400", "-" + "7" * 5000])
async def test_numbers_without_bounds_end_a_task_one_way_or_another(
    core: Core, session: AsyncSessionClient, text: str
) -> None:
    body = json.dumps({"input": f'{{"text": {text}}}', "service_id": "shout"}).encode()
    answer = await submit(core, session, body)
    assert (answer.status, answer.body["status"]) == (200, "failed")


async def test_of_a_key_that_comes_twice_the_last_one_counts(core: Core, session: AsyncSessionClient) -> None:
    body = b'{"input": "{}", "service_id": "nobody", "service_id": "shout", "input": "{\\"text\\": \\"last\\"}"}'
    answer = await submit(core, session, body)
    assert (answer.status, answer.body["result"]) == (200, "LAST")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", "", "a/b; charset=utf-16"]
)
async def test_the_content_type_changes_nothing(core: Core, session: AsyncSessionClient, kind: str) -> None:
    assert (await submit(core, session, TASK + b"}", Content_Type=kind)).body["result"] == "X"


@pytest.mark.parametrize("path", ["/process_message", "/services/register", "/sessions/create"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"data": {"a": NaN}, "action": "new_task"}',
        b'{"service_name": "' + b"x" * 300 + b'", "description": "d"}',
        b'{"service_name": "\\ud800", "description": "d"}',
        b'{"session_id": ' + b"9" * 10_000 + b"}",
    ],
    ids=["empty", "bytes", "NaN", "deep", "deep object", "NaN within", "long name", "surrogate", "digits"],
)
async def test_other_routes_take_nonsense_without_breaking(
    core: Core, session: AsyncSessionClient, path: str, body: bytes
) -> None:
    answer = await ask(core.port, request("POST", path, body, Content_Type="application/json"))
    assert answer.status in (200, 400, 413, 422), answer
    if answer.status == 200:
        assert (path, body) == ("/sessions/create", b"") or b"service_name" in body or b"NaN}" in body


# Sizes


async def test_an_input_of_eleven_mebibytes_is_refused_by_its_size_and_the_setting(session: AsyncSessionClient) -> None:
    with pytest.raises(PayloadTooLarge, match=r"10485760 bytes.*CONTROL_PLANE_MAX_INPUT"):
        await session.run("shout", text="x" * 11 * MIB)


async def test_an_input_of_just_the_limit_is_done(core: Core, session: AsyncSessionClient) -> None:
    text = "x" * (10 * MIB - len('{"text":""}'))
    assert len(await session.run("shout", text=text)) == len(text)


async def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(core: Core, session: AsyncSessionClient) -> None:
    target = f"/sessions/{session.session_id}/tasks"
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n"
    begun = b'{"service_id": "shout", "input": "'
    answer = await ask(core.port, head, b"%x\r\n%s\r\n" % (len(begun), begun), *[chunk] * 64)
    refused(answer, 413, "payload_too_large")


@pytest.mark.parametrize(
    "path", ["/sessions/{}/tasks", "/sessions/{}/state", "/sessions/create", "/process_message", "/services/register"]
)
@pytest.mark.parametrize("length", [str(1024 * MIB), "9" * 18])
async def test_a_declared_length_is_refused_before_anything_of_it_is_read(
    core: Core, session: AsyncSessionClient, path: str, length: str
) -> None:
    target = path.format(session.session_id)
    began = time.monotonic()
    answer = await ask(core.port, request("POST", target, Content_Length=length, Content_Type="application/json"))
    refused(answer, 413, "payload_too_large")
    assert time.monotonic() - began < PROMPT


@pytest.mark.parametrize("path", ["/process_message", "/services/register", "/sessions/create", "/sessions/{}/state"])
async def test_no_route_gathers_a_body_without_end(core: Core, session: AsyncSessionClient, path: str) -> None:
    head = f"POST {path.format(session.session_id)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunk = b"%x\r\n" % MIB + b" " * MIB + b"\r\n"
    answer = await ask(core.port, head.encode() + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 100)
    refused(answer, 413, "payload_too_large")


# The protocol beneath


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a b c\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x:99999999\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n",
        b"GET http://elsewhere/health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /sessions/?a=%zz&wait HTTP/1.1\r\nHost: x\r\n\r\n",
        b"TRACE /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 60_000 + b"\r\n\r\n",
        b"POST /sessions/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /sessions/create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /sessions/create HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /sessions/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
    ],
)
async def test_heads_of_any_kind_do_not_break_the_server(core: Core, session: AsyncSessionClient, head: bytes) -> None:
    try:
        answer = await ask(core.port, head)
    except (IndexError, ConnectionError, asyncio.IncompleteReadError):
        return  # it hung up
    assert answer.status < 500, answer


async def test_what_hangs_up_or_stalls_in_the_middle_holds_up_nobody(core: Core, session: AsyncSessionClient) -> None:
    writers = []
    for _ in range(50):
        _, writer = await asyncio.open_connection("127.0.0.1", core.port)
        writer.write(b"POST /sessions/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        writers.append(writer)
    assert await session.run("shout", text="meanwhile") == "MEANWHILE"
    for writer in writers:
        writer.transport.abort()


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "x", "1e999", ""])
async def test_waits_that_are_no_time_are_refused(core: Core, session: AsyncSessionClient, wait: str) -> None:
    target = f"/sessions/{session.session_id}/tasks?wait={wait}"
    refused(await ask(core.port, request("POST", target, TASK + b"}")), 422, "invalid_input")


@pytest.mark.parametrize("key", ["", "x" * 300])
async def test_idempotency_keys_have_a_length(core: Core, session: AsyncSessionClient, key: str) -> None:
    refused(await submit(core, session, TASK + b"}", Idempotency_Key=key), 422, "invalid_input")


async def test_no_error_tells_of_the_inside(core: Core, session: AsyncSessionClient) -> None:
    body = b'{"action": "new_task", "data": {"a": 1}}'
    answer = await ask(core.port, request("POST", "/process_message", body, Content_Type="application/json"))
    text = json.dumps(answer.body)
    assert answer.status == 422
    assert "Traceback" not in text
    assert "/src/" not in text
