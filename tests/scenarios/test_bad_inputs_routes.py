"""Inputs meant to do harm, on every route that is described."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from arriero import AsyncLlamaDeployClient
from tests.harness import Core
from tests.scenarios.system import Http

ANSWERABLE = {"get", "post"}


@pytest_asyncio.fixture
async def http(core: Core, workers: None) -> AsyncIterator[Http]:
    async with Http(core.url) as http:
        yield http


def body_for(path: str) -> dict[str, Any]:
    event = json.dumps({"qualified_name": "Answer", "value": {}})
    return {"fork": {"after_step": 1}, "send_event": {"service_id": "double", "event_obj_str": event}}.get(
        path.rsplit("/", 1)[1], {}
    )


async def test_no_route_gives_or_changes_a_task_under_another_session(
    http: Http, client: AsyncLlamaDeployClient
) -> None:
    mine, others = await client.create_session(), await client.create_session()
    task_id = await mine.run_nowait("double", x=2)
    assert await mine.run("double", x=1)
    before = (await http.get(f"/sessions/{mine.session_id}/tasks/{task_id}"))[1]
    asked = 0
    for path, methods in (await http.get("/openapi.json"))[1]["paths"].items():
        if "{session_id}" not in path or "{task_id}" not in path:
            continue
        target = path.format(session_id=others.session_id, task_id=task_id)
        for method in ANSWERABLE & set(methods):
            more = {"json": body_for(path)} if method == "post" else {"headers": {"Last-Event-ID": "1"}}
            status, body = await http.ask(method, target, **more)
            assert (status, body["error"]["code"]) == (404, "unknown_task"), (method, path, body)
            asked += 1
    assert asked >= 6
    assert (await http.get(f"/sessions/{mine.session_id}/tasks/{task_id}"))[1] == before


async def test_a_body_that_says_that_it_is_compressed_is_not_expanded(http: Http) -> None:
    bomb = gzip.compress(b'{"service_name": "big", "description": "' + b"x" * 20_000_000 + b'"}')
    for path in ("/services/register", "/process_message", "/sessions/create"):
        status, body = await http.ask("POST", path, data=bomb, headers={"Content-Encoding": "gzip"})
        assert (status, body["error"]["code"]) == (422, "invalid_input")


async def test_a_query_that_says_two_things_of_one_is_refused(http: Http, client: AsyncLlamaDeployClient) -> None:
    session = await client.create_session()
    for query in ("wait=1&wait=2", "wait=1&x=1&wait=1"):
        body = {"input": "{}", "service_id": "double"}
        status, answer = await http.ask("POST", f"/sessions/{session.session_id}/tasks?{query}", json=body)
        assert (status, answer["error"]["code"]) == (422, "invalid_input")
        assert "'wait' 2 times" in answer["error"]["message"]
    assert (await http.get(f"/sessions/{session.session_id}/tasks"))[1] == []
    status, answer = await http.ask("GET", "/sessions?limit=1&after=a&after=b")
    assert (status, "'after' 2 times" in answer["error"]["message"]) == (422, True)
    assert (await http.ask("GET", "/sessions?limit=1&after=a"))[0] == 200


async def test_ranges_are_not_served(http: Http) -> None:
    async with http.stream("/docs", headers={"Range": "bytes=" + ",".join(["0-"] * 5000)}) as page:
        assert (page.status, "Content-Range" in page.headers) == (200, False)
        assert "/openapi.json" in await page.text()


@pytest.mark.parametrize("text", ["a\r\n\r\nid: 9\r\nevent: end\r\ndata: {}\r\n\r\n", "\u2028\u2029\x85\x0b", "\x00"])
async def test_no_text_ends_a_line_of_a_stream(http: Http, client: AsyncLlamaDeployClient, text: str) -> None:
    session = await client.create_session()
    task_id = await session.run_nowait("greeting", name=text)
    path = f"/sessions/{session.session_id}/tasks/{task_id}"
    async with http.stream(f"{path}/events") as events:
        fields = [line.split(b": ", 1)[0] for line in (await events.read()).split(b"\n") if line]
    assert fields[0] == b"retry"
    assert fields[1:] == [b"id", b"event", b"data"] * (len(fields[1:]) // 3)
    async with http.stream(f"{path}/result_stream") as lines:
        told = [json.loads(line) for line in (await lines.read()).splitlines()]
    assert told[-1] == {"result": f"hello {text}"}
