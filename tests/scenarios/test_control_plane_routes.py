"""Every documented route of a control plane, asked in plain HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import BaseModel, SecretStr

from arriero import (
    ControlPlaneConfig,
    ControlPlaneServer,
    FunctionService,
    SimpleMessageQueue,
    SimpleMessageQueueConfig,
    WorkflowService,
)
from tests.harness import free_port
from tests.scenarios import shapes
from tests.scenarios.flows import Counting, Failing, double
from tests.scenarios.shapes import has_shape, refused
from tests.scenarios.system import Http, at_work, beside, control_plane, task


@dataclass
class Gate:
    """A service that answers when it is told to."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> str:
        self.entered.set()
        await self.opened.wait()
        return "through"


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def http(tmp_path: Path, gate: Gate) -> AsyncIterator[Http]:
    """A control plane with the services ``double``, ``gate``, ``counting`` and ``failing``."""
    async with control_plane(tmp_path, max_input=1000) as server:
        queue = server.message_queue
        assert queue is not None
        async with (
            at_work(FunctionService(double, queue, service_name="double", description="It doubles."), server.url),
            at_work(FunctionService(gate, queue, service_name="gate"), server.url),
            at_work(WorkflowService(Counting(), queue, service_name="counting"), server.url),
            at_work(WorkflowService(Failing(), queue, service_name="failing"), server.url),
            Http(server.url) as http,
        ):
            yield http


@pytest.fixture
async def session(http: Http) -> str:
    status, session_id = await http.post("/sessions/create")
    assert status == 200
    return session_id


async def done(http: Http, session: str, service: str, input: str = "{}", **more: Any) -> Any:
    status, result = await http.post(f"/sessions/{session}/tasks?wait=20", task(service, input, **more))
    assert status == 200
    return has_shape(result, shapes.RESULT)


# What it is


async def test_home_tells_the_documented_settings_as_text(http: Http) -> None:
    status, home = await http.get("/")
    assert status == 200
    has_shape(home, shapes.HOME)
    assert home["running"] == "True"
    assert home["services_store_key"] == "services"


async def test_health_and_readiness_answer(http: Http) -> None:
    assert await http.get("/health") == (200, {"status": "ok"})
    assert await http.get("/ready") == (200, {"status": "ready", "problems": {}})


async def test_the_queue_config_stands_under_the_name_of_its_class(http: Http) -> None:
    status, shown = await http.get("/queue_config")
    assert status == 200
    assert list(shown) == ["SimpleMessageQueueConfig"]
    has_shape(shown["SimpleMessageQueueConfig"], shapes.SIMPLE_QUEUE)


async def test_the_queue_config_holds_no_credentials(tmp_path: Path) -> None:
    headers = {"headers": {"Authorization": "Bearer hush"}}
    queue = SimpleMessageQueue(SimpleMessageQueueConfig(port=free_port(), client_kwargs=headers))
    config = ControlPlaneConfig(port=0, state_store_uri=f"sqlite:///{tmp_path}/state.db")
    plane = ControlPlaneServer(queue, config=config)
    async with beside(plane.launch_server(), plane.started.wait()), Http(plane.url) as http:
        status, shown = await http.get("/queue_config")
    assert status == 200
    assert has_shape(shown["SimpleMessageQueueConfig"], shapes.SIMPLE_QUEUE)["port"] == queue.as_config().port
    assert "hush" not in str(shown)


async def test_the_queue_config_shows_addresses_without_their_passwords(tmp_path: Path) -> None:
    class BrokerConfig(BaseModel):
        url: str = "amqp://user:hush@broker.example:5672/vhost?x=1"
        servers: list[str] = ["nats://hush@one.example:4222", "nats://:hu@sh@two.example:4222"]
        more: dict[str, str] = {"replica": "redis://:hush@three.example/0"}
        password: SecretStr = SecretStr("hush")

    class Broker(SimpleMessageQueue):
        def as_config(self) -> Any:
            return BrokerConfig()

    async with control_plane(tmp_path, queue=Broker()) as plane, Http(plane.url) as http:
        status, shown = await http.get("/queue_config")
    assert status == 200
    assert shown["BrokerConfig"]["url"] == "amqp://broker.example:5672/vhost?x=1"
    assert shown["BrokerConfig"]["servers"] == ["nats://one.example:4222", "nats://two.example:4222"]
    assert shown["BrokerConfig"]["more"] == {"replica": "redis://three.example/0"}
    assert "hush" not in str(shown)


async def test_other_origins_may_ask_when_they_are_named(tmp_path: Path) -> None:
    asking = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
    }
    async with control_plane(tmp_path, cors_origins=["http://here.example"]) as plane, aiohttp.ClientSession() as http:
        for origin, allowed in (("http://here.example", "http://here.example"), ("http://elsewhere.example", None)):
            async with http.get(f"{plane.url}/sessions", headers={"Origin": origin}) as answer:
                assert answer.status == (200 if allowed else 403)
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            async with http.post(f"{plane.url}/sessions/x/tasks", json={}, headers={"Origin": origin}) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            async with http.options(f"{plane.url}/sessions/create", headers={"Origin": origin, **asking}) as answer:
                assert answer.status == (200 if allowed else 403)
        asking |= {"Origin": "http://here.example", "Access-Control-Request-Method": "DELETE"}
        async with http.options(f"{plane.url}/sessions/x", headers=asking) as answer:
            assert answer.status == 400
            assert "DELETE" not in answer.headers["Access-Control-Allow-Methods"]
        async with http.get(f"{plane.url}/health") as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


# Services


async def test_a_service_is_registered_looked_up_listed_and_deat_work(http: Http) -> None:
    definition = {"service_name": "new one", "description": "d", "prompt": [], "host": "127.0.0.1", "port": 8002}
    shown = {**definition, "max_queue": None}
    status, config = await http.post("/services/register", definition)
    assert status == 200
    has_shape(config, shapes.CONTROL_PLANE_CONFIG)
    assert await http.get("/services/new%20one") == (200, shown)

    status, services = await http.get("/services")
    assert status == 200
    assert set(services) == {"double", "gate", "counting", "failing", "new one"}
    assert services["new one"] == shown
    assert has_shape(services["double"], shapes.SERVICE)["description"] == "It doubles."

    assert await http.post("/services/deregister?service_name=new%20one") == (200, None)
    refused(await http.get("/services/new%20one"), 404, "unknown_service", "new one", "double, failing, gate")


async def test_registering_again_replaces_the_definition(http: Http) -> None:
    await http.post("/services/register", {"service_name": "s", "description": "before"})
    await http.post("/services/register", {"service_name": "s", "description": "after", "host": "h", "port": 1})
    _, service = await http.get("/services/s")
    after = {"service_name": "s", "description": "after", "prompt": [], "host": "h", "port": 1, "max_queue": None}
    assert service == after


async def test_a_prompt_comes_back_as_documented(http: Http) -> None:
    prompt = [{"role": "user", "content": "hi", "additional_kwargs": {}}]
    await http.post("/services/register", {"service_name": "s", "description": "d", "prompt": prompt})
    _, service = await http.get("/services/s")
    assert service["prompt"] == prompt


async def test_deregistration_takes_its_name_from_the_query_alone(http: Http) -> None:
    refused(await http.post("/services/deregister", {"service_name": "double"}), 422, "invalid_input", "service_name")
    refused(await http.post("/services/deregister?service_name=nobody"), 404, "unknown_service", "nobody")


# Sessions


async def test_a_session_is_created_shown_listed_and_deleted(http: Http) -> None:
    status, session = await http.post("/sessions/create")
    assert status == 200
    assert isinstance(session, str)
    shown = {"session_id": session, "task_ids": [], "state": {}}
    assert await http.get(f"/sessions/{session}") == (200, shown)
    assert await http.get("/sessions") == (200, {session: shown})
    assert await http.post(f"/sessions/{session}/delete") == (200, None)
    refused(await http.get(f"/sessions/{session}"), 404, "unknown_session", session)
    assert await http.get("/sessions") == (200, {})


async def test_a_session_of_a_given_id_is_made_once(http: Http) -> None:
    assert await http.post("/sessions/create", {"session_id": "mine"}) == (200, "mine")
    await http.post("/sessions/mine/state", {"kept": True})
    assert await http.post("/sessions/create", {"session_id": "mine"}) == (200, "mine")
    assert await http.get("/sessions/mine/state") == (200, {"kept": True})


async def test_the_same_idempotency_key_gives_the_same_session(http: Http) -> None:
    first, again, other = [
        (await http.post("/sessions/create", headers={"Idempotency-Key": key}))[1] for key in ("a", "a", "b")
    ]
    assert first == again != other


async def test_session_state_is_merged_by_its_first_level(http: Http, session: str) -> None:
    assert await http.get(f"/sessions/{session}/state") == (200, {})
    assert await http.post(f"/sessions/{session}/state", {"a": {"x": 1}, "b": None}) == (200, None)
    assert await http.post(f"/sessions/{session}/state", {"a": {"y": 2}, "c": [1.5, "ñ"]}) == (200, None)
    expected = {"a": {"y": 2}, "b": None, "c": [1.5, "ñ"]}
    assert await http.get(f"/sessions/{session}/state") == (200, expected)
    _, shown = await http.get(f"/sessions/{session}")
    assert shown["state"] == expected


async def test_updates_of_a_state_at_the_same_time_lose_nothing(http: Http, session: str) -> None:
    updates = (http.post(f"/sessions/{session}/state", {str(number): number}) for number in range(30))
    assert set(await asyncio.gather(*((await_status(update)) for update in updates))) == {200}
    assert await http.get(f"/sessions/{session}/state") == (200, {str(number): number for number in range(30)})


async def await_status(answer: Any) -> int:
    status, _ = await answer
    return status


# Tasks


@pytest.mark.parametrize("name", ["agent_id", "service_id"])
async def test_a_task_names_its_service_by_either_field(http: Http, session: str, name: str) -> None:
    status, task_id = await http.post(f"/sessions/{session}/tasks", {"input": '{"x": 4}', name: "double"})
    assert status == 200
    assert isinstance(task_id, str)
    status, result = await http.get(f"/sessions/{session}/tasks/{task_id}/result?wait=20")
    assert status == 200
    has_shape(result, shapes.RESULT)
    assert (result["task_id"], result["status"]) == (task_id, "completed")
    assert result["value"] == {"doubled": 8, "note": ""}
    assert (result["history"], result["data"], result["error"]) == ([], {}, None)

    status, [shown] = await http.get(f"/sessions/{session}/tasks")
    assert status == 200
    has_shape(shown, shapes.TASK)
    assert shown["agent_id"] == shown["service_id"] == "double"
    assert (shown["input"], shown["task_id"], shown["session_id"]) == ('{"x": 4}', task_id, session)
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]


async def test_the_documented_task_json_is_taken_as_it_stands(http: Http, session: str) -> None:
    body = {"input": '{"x": 1}', "task_id": "T", "session_id": session, "agent_id": "double"}
    assert await http.post(f"/sessions/{session}/tasks", body) == (200, "T")
    newer = {**body, "task_id": "U", "agent_id": None, "service_id": "double", "state": {}, "unknown": 1}
    assert await http.post(f"/sessions/{session}/tasks", newer) == (200, "U")


async def test_tasks_are_listed_in_the_order_of_submission(http: Http, session: str) -> None:
    ids = [(await http.post(f"/sessions/{session}/tasks", task("double", '{"x": 1}')))[1] for _ in range(5)]
    _, listed = await http.get(f"/sessions/{session}/tasks")
    assert [shown["task_id"] for shown in listed] == ids
    _, shown = await http.get(f"/sessions/{session}")
    assert shown["task_ids"] == ids
    _, current = await http.get(f"/sessions/{session}/current_task")
    assert has_shape(current, shapes.TASK)["task_id"] == ids[-1]


async def test_a_session_without_tasks_has_no_current_task(http: Http, session: str) -> None:
    assert await http.get(f"/sessions/{session}/current_task") == (200, None)
    assert await http.get(f"/sessions/{session}/tasks") == (200, [])


async def test_a_result_that_is_not_there_yet_is_null(http: Http, session: str, gate: Gate) -> None:
    _, task_id = await http.post(f"/sessions/{session}/tasks", task("gate"))
    await gate.entered.wait()
    path = f"/sessions/{session}/tasks/{task_id}"
    assert await http.get(f"{path}/result") == (200, None)
    pending = {"task_id": task_id, "status": "running", "waits_for": []}
    assert await http.get(f"{path}/result?wait=0.05") == (202, pending)
    _, shown = await http.get(path)
    assert has_shape(shown, shapes.TASK)["status"] == "running"
    waiting = asyncio.ensure_future(http.get(f"{path}/result?wait=20"))
    gate.opened.set()
    status, result = await waiting
    assert (status, result["result"]) == (200, "through")
    assert (await http.get(f"{path}/result"))[1] == result
    assert (await http.get(path))[1]["status"] == "completed"


@pytest.mark.shows("accept.wait")
async def test_submitting_with_wait_gives_the_result_or_the_id_of_what_goes_on(
    http: Http, session: str, gate: Gate
) -> None:
    assert (await done(http, session, "double", '{"x": 3}'))["value"]["doubled"] == 6
    status, body = await http.post(f"/sessions/{session}/tasks?wait=0.1", task("gate", task_id="T"))
    assert status == 202
    assert body["task_id"] == "T"
    assert body["status"] in {"queued", "running"}
    gate.opened.set()
    _, result = await http.get(f"/sessions/{session}/tasks/T/result?wait=20")
    assert result["result"] == "through"


@pytest.mark.shows("accept.wait")
async def test_a_task_that_fails_is_answered_with_its_status_and_error(http: Http, session: str) -> None:
    result = await done(http, session, "failing", '{"text": "broken"}')
    assert (result["status"], result["value"], result["result"]) == ("failed", None, "broken")
    has_shape(result["error"], shapes.ERROR)
    assert (result["error"]["type"], result["error"]["message"]) == ("LookupError", "broken")
    assert result["error"]["details"]["step"] == "explode"
    _, [shown] = await http.get(f"/sessions/{session}/tasks")
    assert (shown["status"], shown["error"]) == ("failed", result["error"])


@pytest.mark.shows("accept.known")
async def test_an_unknown_service_is_refused_and_leaves_no_task(http: Http, session: str) -> None:
    answer = await http.post(f"/sessions/{session}/tasks", task("dubble"))
    refused(answer, 404, "unknown_service", "dubble", "counting, double, failing, gate", "did you mean 'double'")
    assert await http.get(f"/sessions/{session}/tasks") == (200, [])


@pytest.mark.shows("accept.repeat")
async def test_the_same_task_submitted_again_is_the_same_task(http: Http, session: str) -> None:
    body = task("double", '{"x": 5}', task_id="T")
    answers = [await http.post(f"/sessions/{session}/tasks", body) for _ in range(3)]
    assert answers == [(200, "T")] * 3
    assert (await done(http, session, "double", '{"x": 5}', task_id="T"))["value"]["doubled"] == 10
    refused(
        await http.post(f"/sessions/{session}/tasks", task("double", '{"x": 6}', task_id="T")),
        409,
        "task_conflict",
        "'T'",
    )
    _, listed = await http.get(f"/sessions/{session}/tasks")
    assert len(listed) == 1


@pytest.mark.shows("accept.key")
async def test_an_idempotency_key_stands_for_one_task_in_its_session(http: Http, session: str) -> None:
    path, key = f"/sessions/{session}/tasks", {"Idempotency-Key": "order 66"}
    first = await http.post(path, task("double", '{"x": 1}'), headers=key)
    again = await http.post(path, task("double", '{"x": 1}'), headers=key)
    assert first == again
    conflict = await http.post(path, task("double", '{"x": 2}'), headers=key)
    refused(conflict, 409, "task_conflict")
    _, other = await http.post("/sessions/create")
    elsewhere = await http.post(f"/sessions/{other}/tasks", task("double", '{"x": 2}'), headers=key)
    assert elsewhere[0] == 200
    assert elsewhere != first


@pytest.mark.shows("accept.key")
async def test_many_submissions_of_one_key_at_once_make_one_task(http: Http, session: str) -> None:
    path, key = f"/sessions/{session}/tasks?wait=20", {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(http.post(path, task("double", '{"x": 1}'), headers=key) for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert len({result["task_id"] for _, result in answers}) == 1
    _, listed = await http.get(f"/sessions/{session}/tasks")
    assert len(listed) == 1


async def test_a_deleted_session_takes_its_tasks_along(http: Http, session: str, gate: Gate) -> None:
    await http.post(f"/sessions/{session}/tasks", task("gate", task_id="T"))
    await gate.entered.wait()
    waiting = asyncio.ensure_future(http.get(f"/sessions/{session}/tasks/T/result?wait=20"))
    assert await http.post(f"/sessions/{session}/delete") == (200, None)
    refused(await http.get(f"/sessions/{session}/tasks/T/result"), 404, "unknown_session", session)
    status, body = await waiting
    assert (status, body.get("status")) == (200, "cancelled") or status == 404


# Cancelling


async def test_a_cancelled_task_is_shown_as_it_is_then(http: Http, session: str, gate: Gate) -> None:
    await http.post(f"/sessions/{session}/tasks", task("gate", task_id="T"))
    await gate.entered.wait()
    status, shown = await http.post(f"/sessions/{session}/tasks/T/cancel", {"reason": "too late"})
    assert (status, shown["status"], shown["error"]["type"]) == (200, "cancelled", "TaskCancelled")
    assert has_shape(shown, shapes.TASK) == (await http.get(f"/sessions/{session}/tasks/T"))[1]
    assert "too late" in shown["error"]["message"]
    _, result = await http.get(f"/sessions/{session}/tasks/T/result")
    assert (result["status"], result["error"]) == ("cancelled", shown["error"])


@pytest.mark.shows("end.first-wins")
async def test_cancelling_needs_no_body_and_changes_nothing_that_has_ended(http: Http, session: str) -> None:
    await done(http, session, "double", '{"x": 1}', task_id="T")
    for body in (None, {}, {"reason": None}, {"reason": "too late"}):
        options = {} if body is None else {"json": body}
        status, shown = await http.ask("POST", f"/sessions/{session}/tasks/T/cancel", **options)
        assert (status, shown["status"], shown["error"]) == (200, "completed", None)


# Messages


async def test_a_new_task_message_makes_a_task_in_a_session_of_its_own(http: Http) -> None:
    data = {"input": '{"x": 2}', "task_id": "T", "session_id": None, "agent_id": "double"}
    message = {"type": "control_plane", "action": "new_task", "data": data, "publisher_id": "somebody"}
    assert await http.post("/process_message", message) == (200, None)
    _, sessions = await http.get("/sessions")
    [session] = sessions
    assert sessions[session]["task_ids"] == ["T"]
    _, result = await http.get(f"/sessions/{session}/tasks/T/result?wait=20")
    assert result["value"]["doubled"] == 4


async def test_both_documented_forms_of_a_new_task_are_taken(http: Http, session: str) -> None:
    bare = {"input": '{"x": 2}', "task_id": "A", "session_id": session, "service_id": "double"}
    wrapped = {"task": {**bare, "task_id": "B"}, "state": {}}
    for data in (bare, wrapped):
        message = {"type": "control_plane", "action": "new_task", "data": data}
        assert await http.post("/process_message", message) == (200, None)
    _, listed = await http.get(f"/sessions/{session}/tasks")
    assert [shown["task_id"] for shown in listed] == ["A", "B"]


async def test_events_and_result_of_a_foreign_service_are_taken(http: Http, session: str) -> None:
    await http.post("/services/register", {"service_name": "foreign", "description": "speaks messages"})
    await http.post(f"/sessions/{session}/tasks", task("foreign", "anything", task_id="T"))
    for index in range(2):
        data = {"task_id": "T", "session_id": session, "data": {"progress": index}, "index": index}
        message = {"type": "control_plane", "action": "task_stream", "data": data}
        assert await http.post("/process_message", message) == (200, None)
    data = {"task_id": "T", "history": [], "result": "hello_result", "data": {}}
    message = {"type": "control_plane", "action": "completed_task", "data": data}
    assert await http.post("/process_message", message) == (200, None)
    _, result = await http.get(f"/sessions/{session}/tasks/T/result")
    assert (result["result"], result["status"]) == ("hello_result", "completed")
    async with http.stream(f"/sessions/{session}/tasks/T/result_stream") as response:
        assert await response.text() == '{"progress":0}\n{"progress":1}\n'


@pytest.mark.shows("message.refused")
async def test_nobody_but_its_worker_ends_a_task_that_was_claimed(http: Http, session: str, gate: Gate) -> None:
    await http.post(f"/sessions/{session}/tasks", task("gate", task_id="T"))
    await gate.entered.wait()
    data = {"task_id": "T", "history": [], "result": "forged", "data": {}}
    message = {"type": "control_plane", "action": "completed_task", "data": data}
    refused(await http.post("/process_message", message), 409, "fenced", "T")
    gate.opened.set()
    _, result = await http.get(f"/sessions/{session}/tasks/T/result?wait=20")
    assert result["result"] == "through"


async def test_a_task_that_nobody_can_do_says_so(http: Http, session: str) -> None:
    reason = "no worker of service 'nobody' is connected"
    await http.post("/services/register", {"service_name": "nobody", "description": "d"})
    status, pending = await http.post(f"/sessions/{session}/tasks?wait=0.05", task("nobody", task_id="N"))
    waits_for = [{"worker_of": "nobody"}]
    assert (status, pending) == (202, {"task_id": "N", "status": "queued", "waits_for": waits_for, "reason": reason})
    assert (await http.get(f"/sessions/{session}/tasks/N"))[1]["waits_for"] == waits_for


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_is_json_whatever_the_request_calls_it(http: Http, session: str, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    body = b'{"service_name": "listed", "description": "d"}'
    assert (await http.ask("POST", "/services/register", data=body, headers=headers))[0] == 200
    assert (await http.get("/services/listed"))[0] == 200
    data = task("double", '{"x": 2}', task_id="M", session_id=session)
    message = json.dumps({"type": "control_plane", "action": "new_task", "data": data}).encode()
    assert await http.ask("POST", "/process_message", data=message, headers=headers) == (200, None)
    assert (await http.get(f"/sessions/{session}/tasks/M/result?wait=20"))[1]["value"]["doubled"] == 4
    refused(await http.ask("POST", "/process_message", data=b"a=1", headers=headers), 422, "invalid_input")
