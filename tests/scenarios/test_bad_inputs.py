"""A table of bad inputs against every route that takes a body, of the control plane and of the queue: each is refused
with a typed error of the client's kind, and both go on."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.harness import Core
from tests.scenarios.raw import Answer, ask, request

MIB = 1024 * 1024

NO_JSON = {
    "lists nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects nested 50,000 deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "an integer of 10,000 digits": b"1" * 10_000,
    "such an integer inside": b'{"data":{"n":' + b"1" * 10_000 + b"}}",
    "NaN": b'{"data":{"n":NaN}}',
    "infinity": b'{"data":{"n":-Infinity}}',
    "a number beyond a float": b'{"data":{"n":1e999}}',
    "a lone surrogate": b'{"data":{"n":"\\ud800"}}',
    "a lone surrogate as a key": b'{"data":{"\\udfff":1}}',
    "text that is not UTF-8": b'{"type":"\xff\xfe"}',
    "a pickle": b"cposix\nsystem\n(S'ls'\ntR.",
    "YAML with a tag": b"!!python/object/apply:os.system [ls]",
    "two values": b"{} {}",
    "half an object": b'{"type":',
    "lists nested 300 deep inside": b'{"data":{"n":' + b"[" * 300 + b"]" * 300 + b"}}",
}
NO_OBJECT = {"null": b"null", "a list": b"[]", "text": b'"text"', "a number": b"1"}
NO_NAMES = [
    *("..", ".", "../x", "..\\x", "/etc/passwd", "C:\\x", "", " ", "a ", "a\u0000", "a\nb", "a\rb"),
    *("a\u202eb", "\uff0e\uff0e/", "x" * 129, "control_plane"),
]

CONTROL_PLANE = (
    "/process_message",
    "/services/register",
    "/sessions/create",
    "/sessions/here/state",
    "/sessions/here/tasks",
    "/sessions/here/tasks/none/send_event",
)
QUEUE = ("/publish", "/publish/here", "/messages/here", "/register_consumer", "/deregister_consumer")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def prepared(core: Core) -> AsyncIterator[Core]:
    """A core with a session and a topic of that name."""
    assert (await ask(core.port, request("POST", "/sessions/create", b'{"session_id": "here"}'))).status == 200
    assert (await ask(core.queue_port, request("POST", "/topics/here"))).status == 200
    yield core
    assert (await ask(core.port, request("GET", "/ready"))).status == 200
    assert (await ask(core.queue_port, request("GET", "/health"))).status == 200


def is_refused(answer: Answer) -> bool:
    """Whether it is an error of the client's, in both of its places."""
    return 400 <= answer.status < 500 and bool(answer.body["error"]["code"]) and bool(answer.body["detail"])


@pytest.mark.parametrize("name", NO_JSON)
async def test_what_is_no_json_is_refused_everywhere(prepared: Core, name: str) -> None:
    for port, paths in ((prepared.port, CONTROL_PLANE), (prepared.queue_port, QUEUE)):
        for path in paths:
            answer = await ask(port, request("POST", path, NO_JSON[name]))
            assert is_refused(answer), (path, answer)


@pytest.mark.parametrize("name", NO_OBJECT)
async def test_what_is_no_object_is_refused_everywhere(prepared: Core, name: str) -> None:
    for port, paths in ((prepared.port, CONTROL_PLANE), (prepared.queue_port, QUEUE)):
        for path in paths:
            if path == "/deregister_consumer" and name == "null":
                continue  # the consumer may be named in the query
            answer = await ask(port, request("POST", path, NO_OBJECT[name]))
            assert is_refused(answer), (path, answer)


@pytest.mark.parametrize(
    "target",
    [
        "/sessions/%ff%fe",
        "/sessions/%ed%a0%80/state",
        "/sessions/%00/tasks",
        f"/sessions/{'x' * 5000}",
        "/sessions/..%5c",
        f"/sessions/{'%F0%9F%A6%99' * 129}",
        f"/sessions/here/tasks/{'%F0%9F%A6%99' * 129}/result",
        "/sessions/here/tasks/%00/result_stream",
        "/services/%00",
        "/services/%3Cimg%20onerror%3E",
        "/sessions?limit=-1",
        f"/sessions?limit={'1' * 5000}",
        "/sessions?limit=1;DROP",
        "/sessions?after=%00",
        "/sessions/here/tasks?limit=0",
        "/sessions/here/tasks?limit=NaN",
        "/%2e%2e%2f%2e%2e%2fetc/passwd",
    ],
)
async def test_names_and_queries_that_cannot_be_are_refused(prepared: Core, target: str) -> None:
    answer = await ask(prepared.port, request("GET", target))
    assert is_refused(answer), answer


@pytest.mark.parametrize("name", NO_NAMES)
async def test_names_of_sessions_tasks_and_services_are_checked(prepared: Core, name: str) -> None:
    definition = json.dumps({"service_name": name, "description": "d"}).encode()
    assert is_refused(await ask(prepared.port, request("POST", "/services/register", definition)))
    if name != "control_plane":
        wanted = json.dumps({"session_id": name}).encode()
        assert is_refused(await ask(prepared.port, request("POST", "/sessions/create", wanted)))
        task = json.dumps({"input": "{}", "service_id": "none", "task_id": name}).encode()
        assert is_refused(await ask(prepared.port, request("POST", "/sessions/here/tasks", task)))


async def test_of_two_keys_of_one_name_the_last_counts(prepared: Core) -> None:
    body = b'{"service_name": "first", "description": "d", "service_name": "last of two"}'
    assert (await ask(prepared.port, request("POST", "/services/register", body))).status == 200
    assert (await ask(prepared.port, request("GET", "/services/last%20of%20two"))).status == 200
    assert (await ask(prepared.port, request("GET", "/services/first"))).status == 404


@pytest.mark.parametrize(
    "value",
    [
        '{"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}',
        '{"__is_pydantic": true, "qualified_name": "os.system", "value": {}}',
        '{"py/object": "os.system", "__reduce__": [], "__class__": "x", "$ref": "#", "__proto__": {"a": 1}}',
        '{"\'); DROP TABLE documents; --": {"$.x": "`\\""}, "nul": "a\\u0000b", "big": 9007199254740993}',
    ],
)
async def test_what_looks_like_a_marker_comes_back_as_it_was(prepared: Core, value: str) -> None:
    body = f'{{"kept": {value}}}'.encode()
    assert (await ask(prepared.port, request("POST", "/sessions/here/state", body))).status == 200
    state = (await ask(prepared.port, request("GET", "/sessions/here/state"))).body
    assert state["kept"] == json.loads(value)


@pytest.mark.parametrize("which", ["port", "queue_port"])
async def test_a_head_without_end_is_refused_and_the_connection_closed(prepared: Core, which: str) -> None:
    port: int = getattr(prepared, which)
    many = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    one = b"X: " + b"y" * MIB
    line = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    for head in (line + many + b"\r\n", line + one + b"\r\n\r\n", line + one, b"GET /" + b"y" * MIB):
        answer = await ask(port, head)
        assert (answer.status, answer.body["error"]["code"]) == (431, "head_too_large"), answer
        assert answer.headers["connection"] == "close"


async def test_a_body_beyond_any_limit_is_refused_by_its_declared_length(prepared: Core) -> None:
    for port, path in ((prepared.port, "/process_message"), (prepared.queue_port, "/publish/here")):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1024 * MIB}\r\n\r\n".encode()
        assert (await ask(port, head)).status == 413


async def test_a_link_with_a_head_without_end_is_refused(prepared: Core) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    head = request("GET", "/link", b"", **upgrade, Sec_WebSocket_Key="aaaaaaaaaaaaaaaaaaaaaa==", X="y" * 100_000)
    assert (await ask(prepared.port, head)).status == 431


async def test_requests_that_follow_each_other_on_a_connection_are_counted_each_by_itself(prepared: Core) -> None:
    padding = "y" * 40_000
    one = request("GET", "/health", b"", X_Padding=padding)
    reader, writer = await asyncio.open_connection("127.0.0.1", prepared.port)
    try:
        for _ in range(20):
            writer.write(one)
            await writer.drain()
            assert b"200" in await reader.readline()
            while (await reader.readline()).strip():
                pass
            await reader.readexactly(len(b'{"status":"ok"}'))
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("headers", "word"),
    [({str(n): "v" for n in range(65)}, "65 headers"), ({"a": "v" * 40_000}, "all headers of the task")],
)
async def test_headers_of_a_task_are_bounded(prepared: Core, headers: dict[str, str], word: str) -> None:
    body = json.dumps({"input": "{}", "service_id": "none", "headers": headers}).encode()
    answer = await ask(prepared.port, request("POST", "/sessions/here/tasks", body))
    assert (answer.status, answer.body["error"]["code"]) == (413, "payload_too_large")
    assert word in answer.body["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {"description": "d" * 70_000},
        {"description": "d", "prompt": [{"role": "user", "content": "x" * 300_000}]},
        {"description": "d", "host": "h" * 300},
    ],
)
async def test_what_a_service_says_of_itself_is_bounded(prepared: Core, fields: dict[str, object]) -> None:
    body = json.dumps({"service_name": "wordy", **fields}).encode()
    answer = await ask(prepared.port, request("POST", "/services/register", body))
    assert (answer.status, answer.body["error"]["code"]) == (413, "payload_too_large")


async def test_a_state_that_grows_beyond_the_limit_in_small_steps_is_refused(prepared: Core) -> None:
    assert (await ask(prepared.port, request("POST", "/sessions/create", b'{"session_id": "growing"}'))).status == 200
    statuses = []
    for number in range(3):
        body = json.dumps({f"part {number}": "x" * 4 * MIB}).encode()
        statuses.append((await ask(prepared.port, request("POST", "/sessions/growing/state", body))).status)
    assert statuses == [200, 200, 413]
