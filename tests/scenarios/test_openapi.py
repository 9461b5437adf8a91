"""The description of the routes is complete and whole."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from arriero import WorkflowService
from tests.scenarios.flows import Greeting
from tests.scenarios.system import Http, control_plane, served

DOCUMENTED = {
    ("get", "/"),
    ("post", "/process_message"),
    ("get", "/queue_config"),
    ("post", "/services/register"),
    ("post", "/services/deregister"),
    ("get", "/services/{service_name}"),
    ("get", "/services"),
    ("post", "/sessions/create"),
    ("get", "/sessions/{session_id}"),
    ("post", "/sessions/{session_id}/delete"),
    ("get", "/sessions"),
    ("post", "/sessions/{session_id}/tasks"),
    ("get", "/sessions/{session_id}/tasks"),
    ("get", "/sessions/{session_id}/current_task"),
    ("get", "/sessions/{session_id}/tasks/{task_id}/result"),
    ("get", "/sessions/{session_id}/tasks/{task_id}/result_stream"),
    ("post", "/sessions/{session_id}/tasks/{task_id}/send_event"),
    ("post", "/sessions/{session_id}/tasks/{task_id}/cancel"),
    ("get", "/sessions/{session_id}/state"),
    ("post", "/sessions/{session_id}/state"),
    ("get", "/health"),
    ("get", "/ready"),
    ("get", "/sessions/{session_id}/tasks/{task_id}"),
    ("get", "/sessions/{session_id}/tasks/{task_id}/events"),
}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    async with control_plane(tmp_path) as server, Http(server.url) as http:
        yield http


@pytest.fixture
async def described(http: Http) -> dict[str, Any]:
    status, document = await http.get("/openapi.json")
    assert status == 200
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield method, path, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


async def test_every_documented_route_is_described(described: dict[str, Any]) -> None:
    assert {(method, path) for method, path, _ in operations(described)} >= DOCUMENTED


async def test_what_is_described_is_whole(described: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", described["openapi"])
    assert described["info"]["title"]
    assert described["info"]["version"]
    assert set(described) <= {"openapi", "info", "paths", "components", "tags", "servers"}
    for reference in references(described):
        node: Any = described
        assert reference.startswith("#/")
        for part in reference[2:].split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        assert isinstance(node, dict)


async def test_every_operation_is_well_formed(described: dict[str, Any]) -> None:
    names = []
    for method, path, operation in operations(described):
        names.append(operation["operationId"])
        parameters = operation.get("parameters", [])
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path)), path
        for parameter in parameters:
            assert parameter["in"] in {"path", "query", "header", "cookie"}
            assert parameter["required"] is True or parameter["in"] != "path"
            assert isinstance(parameter["schema"], dict)
        if "requestBody" in operation:
            assert method == "post"
            assert operation["requestBody"]["content"]
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status)
            assert response["description"]
            for content in response.get("content", {}).values():
                assert isinstance(content["schema"], dict)
    assert len(names) == len(set(names))


async def test_the_hot_routes_are_described_with_what_they_take_and_give(described: dict[str, Any]) -> None:
    submit = described["paths"]["/sessions/{session_id}/tasks"]["post"]
    assert {parameter["name"] for parameter in submit["parameters"]} == {"session_id", "wait", "Idempotency-Key"}
    assert {"200", "202", "404", "409", "413", "422"} <= set(submit["responses"])
    models = described["components"]["schemas"]
    body = submit["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    assert {"input", "task_id", "session_id", "service_id"} <= set(models[body]["properties"])
    assert models[body]["required"] == ["input"]
    result = described["paths"]["/sessions/{session_id}/tasks/{task_id}/result"]["get"]
    shown = result["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"][0]["$ref"].rsplit("/", 1)[1]
    assert {"task_id", "history", "result", "data", "value", "status", "error"} <= set(models[shown]["properties"])


async def test_the_reason_of_a_cancel_is_described_and_may_be_left_out(described: dict[str, Any]) -> None:
    body = described["paths"]["/sessions/{session_id}/tasks/{task_id}/cancel"]["post"]["requestBody"]
    assert body["required"] is False
    assert list(body["content"]["application/json"]["schema"]["properties"]) == ["reason"]


async def test_streams_are_described_by_their_content_types(described: dict[str, Any]) -> None:
    paths = described["paths"]
    lines = paths["/sessions/{session_id}/tasks/{task_id}/result_stream"]["get"]["responses"]["200"]
    assert list(lines["content"]) == ["application/x-ndjson"]
    events = paths["/sessions/{session_id}/tasks/{task_id}/events"]["get"]["responses"]["200"]
    assert list(events["content"]) == ["text/event-stream"]


async def test_a_page_shows_the_routes_of_a_control_plane(http: Http) -> None:
    async with http.stream("/docs") as page:
        assert page.status == 200
        assert "/openapi.json" in await page.text()


async def test_a_service_describes_its_own_routes(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server:
        service = WorkflowService(Greeting(), server.message_queue, service_name="greeting")
        async with served(service, server.url) as url, Http(url) as http:
            _, document = await http.get("/openapi.json")
            described = {(method, path) for method, path, _ in operations(document)}
            assert described >= {("get", "/"), ("post", "/process_message"), ("get", "/health"), ("get", "/ready")}
            async with http.stream("/docs") as page:
                assert page.status == 200
