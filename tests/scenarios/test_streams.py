"""A task's stream over HTTP: the documented lines of JSON, and server-sent events that are resumed."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from arriero import ControlPlaneServer, FunctionService, WorkflowService
from tests.scenarios.flows import Counting, Failing, Progress, double
from tests.scenarios.shapes import ERROR, has_shape, refused
from tests.scenarios.system import Http, at_work, control_plane


class Steered(Workflow):
    """Streams a number each time it is told to, and ends at the end of them."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: asyncio.Queue[int | None] = asyncio.Queue()

    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        while (number := await self.orders.get()) is not None:
            ctx.write_event_to_stream(Progress(number=number))
        return StopEvent(result="done")


@dataclass
class Streaming:
    http: Http
    session: str
    steered: Steered

    async def start(self, service: str, **arguments: Any) -> str:
        """Submit a task; gives the path of it."""
        body = {"input": json.dumps(arguments), "service_id": service}
        _, task_id = await self.http.post(f"/sessions/{self.session}/tasks", body)
        return f"/sessions/{self.session}/tasks/{task_id}"


@pytest.fixture
async def streaming(tmp_path: Path) -> AsyncIterator[Streaming]:
    steered = Steered()
    async with control_plane(tmp_path) as server, Http(server.url) as http:
        queue = server.message_queue
        assert queue is not None
        async with (
            at_work(FunctionService(double, queue, service_name="double"), server.url),
            at_work(WorkflowService(Counting(), queue, service_name="counting"), server.url),
            at_work(WorkflowService(Failing(), queue, service_name="failing"), server.url),
            at_work(WorkflowService(steered, queue, service_name="steered"), server.url),
        ):
            _, session = await http.post("/sessions/create")
            yield Streaming(http, session, steered)


@dataclass(frozen=True)
class Sent:
    id: int
    event: str
    data: dict[str, Any]


async def sent_events(response: Any) -> AsyncIterator[Sent]:
    """Server-sent events as the standard reads them; comments, and what has no data, are left out."""
    fields: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if not line:
            if "data" in fields:
                yield Sent(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


async def lines(response: Any) -> list[Any]:
    return [json.loads(line) async for line in response.content]


# Lines of JSON


@pytest.mark.shows("stream.lines")
async def test_a_stream_gives_each_event_and_the_stop_event_as_lines_of_json(streaming: Streaming) -> None:
    path = await streaming.start("counting", upto=3)
    async with streaming.http.stream(f"{path}/result_stream") as response:
        assert response.status == 200
        assert response.content_type == "application/x-ndjson"
        expected = [{"number": number, "note": "ñ"} for number in range(3)]
        assert await lines(response) == [*expected, {"result": {"upto": 3}}]


async def test_a_late_reader_gets_the_whole_stream_again(streaming: Streaming) -> None:
    path = await streaming.start("counting", upto=450)
    await streaming.http.get(f"{path}/result?wait=20")
    for _ in range(2):
        async with streaming.http.stream(f"{path}/result_stream") as response:
            read = await lines(response)
        assert [line.get("number") for line in read] == [*range(450), None]


async def test_a_stream_of_a_task_without_events_waits_for_them_instead_of_being_refused(streaming: Streaming) -> None:
    path = await streaming.start("steered")
    async with streaming.http.stream(f"{path}/result_stream") as response:
        assert response.status == 200
        streaming.steered.orders.put_nowait(7)
        assert json.loads(await response.content.readline()) == {"number": 7, "note": ""}
        streaming.steered.orders.put_nowait(None)
        assert await lines(response) == [{"result": "done"}]


async def test_events_come_while_the_task_runs(streaming: Streaming) -> None:
    path = await streaming.start("steered")
    async with streaming.http.stream(f"{path}/result_stream") as response:
        for number in range(5):
            streaming.steered.orders.put_nowait(number)
            assert json.loads(await response.content.readline())["number"] == number
        assert await streaming.http.get(f"{path}/result") == (200, None)
        streaming.steered.orders.put_nowait(None)


@pytest.mark.shows("stream.lines")
async def test_a_failed_task_ends_its_lines_with_one_error(streaming: Streaming) -> None:
    path = await streaming.start("failing", text="broken")
    async with streaming.http.stream(f"{path}/result_stream") as response:
        assert response.status == 200
        event, failure = await lines(response)
    assert event == {"number": 1, "note": ""}
    assert list(failure) == ["error"]
    has_shape(failure["error"], ERROR)
    assert (failure["error"]["type"], failure["error"]["message"]) == ("LookupError", "broken")


async def test_a_function_streams_its_result(streaming: Streaming) -> None:
    path = await streaming.start("double", x=2)
    async with streaming.http.stream(f"{path}/result_stream") as response:
        assert await lines(response) == [{"result": {"doubled": 4, "note": ""}}]


async def test_a_session_that_is_deleted_ends_the_streams_of_its_tasks(streaming: Streaming) -> None:
    path = await streaming.start("steered")
    async with streaming.http.stream(f"{path}/result_stream") as response:
        streaming.steered.orders.put_nowait(1)
        await response.content.readline()
        await streaming.http.post(f"/sessions/{streaming.session}/delete")
        rest = await lines(response)
    assert [line["error"]["code"] for line in rest] == ["task_cancelled"]


# Server-sent events


@pytest.mark.shows("stream.end", "stream.sent-events")
async def test_server_sent_events_have_rising_ids_and_one_end(streaming: Streaming) -> None:
    path = await streaming.start("counting", upto=3)
    async with streaming.http.stream(f"{path}/events") as response:
        assert response.content_type == "text/event-stream"
        events = [event async for event in sent_events(response)]
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    assert [event.event for event in events].count("end") == 1
    assert events[-1].event == "end"
    assert events[-1].data["status"] == "completed"
    own = [event.data for event in events if event.event == "event"]
    assert [event["type"] for event in own] == ["Progress", "Progress", "Progress", "StopEvent"]
    assert [event["data"] for event in own[:3]] == [{"number": number, "note": "ñ"} for number in range(3)]


@pytest.mark.shows("stream.resume")
async def test_a_stream_resumes_behind_the_last_event_id(streaming: Streaming) -> None:
    path = await streaming.start("counting", upto=20)
    await streaming.http.get(f"{path}/result?wait=20")
    async with streaming.http.stream(f"{path}/events") as response:
        events = [event async for event in sent_events(response)]
    for number, event in enumerate(events):
        async with streaming.http.stream(f"{path}/events", headers={"Last-Event-ID": str(event.id)}) as response:
            assert [later async for later in sent_events(response)] == events[number + 1 :]


@pytest.mark.shows("stream.resume")
async def test_a_reader_that_comes_back_again_and_again_sees_each_event_once(streaming: Streaming) -> None:
    path = await streaming.start("steered")
    seen: list[Sent] = []
    for number in range(6):
        streaming.steered.orders.put_nowait(number)
        headers = {"Last-Event-ID": str(seen[-1].id)} if seen else {}
        async with streaming.http.stream(f"{path}/events", headers=headers) as response:
            async for event in sent_events(response):
                seen.append(event)
                if event.event == "event":
                    break
    streaming.steered.orders.put_nowait(None)
    async with streaming.http.stream(f"{path}/events", headers={"Last-Event-ID": str(seen[-1].id)}) as response:
        seen += [event async for event in sent_events(response)]
    own = [event.data["data"] for event in seen if event.event == "event"]
    assert own == [*({"number": number, "note": ""} for number in range(6)), {"result": "done"}]
    assert [event.event for event in seen].count("end") == 1


async def test_readers_at_the_same_time_see_the_same(streaming: Streaming) -> None:
    path = await streaming.start("steered")

    async def read() -> list[Sent]:
        async with streaming.http.stream(f"{path}/events") as response:
            return [event async for event in sent_events(response)]

    readers = [asyncio.ensure_future(read()) for _ in range(10)]
    for number in [*range(30), None]:
        streaming.steered.orders.put_nowait(number)
    first, *others = await asyncio.gather(*readers)
    assert len(first) >= 32
    assert all(other == first for other in others)


@pytest.mark.shows("stream.end")
async def test_the_end_of_a_failed_task_tells_why(streaming: Streaming) -> None:
    path = await streaming.start("failing", text="broken")
    async with streaming.http.stream(f"{path}/events") as response:
        *_, end = [event async for event in sent_events(response)]
    assert (end.event, end.data["status"]) == ("end", "failed")
    assert end.data["error"]["message"] == "broken"


@pytest.mark.parametrize("id", ["x", "-1", "1" * 30])
async def test_a_last_event_id_that_is_no_number_of_an_event_is_refused(streaming: Streaming, id: str) -> None:
    path = await streaming.start("double", x=1)
    answer = await streaming.http.get(f"{path}/events", headers={"Last-Event-ID": id})
    refused(answer, 422, "invalid_input", "Last-Event-ID")


async def test_a_last_event_id_that_the_stream_has_not_reached_is_refused(streaming: Streaming) -> None:
    path = await streaming.start("steered")
    answer = await streaming.http.get(f"{path}/events", headers={"Last-Event-ID": "7"})
    refused(answer, 404, "not_found", "which has 0 entries")
    streaming.steered.orders.put_nowait(None)


async def test_who_has_everything_is_told_not_to_come_again(streaming: Streaming) -> None:
    path = await streaming.start("counting", upto=1)
    async with streaming.http.stream(f"{path}/events") as response:
        *_, end = [event async for event in sent_events(response)]
    async with streaming.http.stream(f"{path}/events", headers={"Last-Event-ID": str(end.id)}) as response:
        assert (response.status, await response.read()) == (204, b"")


@pytest.mark.parametrize("kind", ["events", "result_stream"])
async def test_streams_tell_proxies_not_to_hold_them_back(streaming: Streaming, kind: str) -> None:
    path = await streaming.start("double", x=1)
    async with streaming.http.stream(f"{path}/{kind}") as response:
        assert response.headers["Cache-Control"] == "no-cache, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert "Content-Length" not in response.headers


async def test_server_sent_events_begin_with_when_to_come_again(streaming: Streaming) -> None:
    path = await streaming.start("steered")
    async with streaming.http.stream(f"{path}/events") as response:
        assert await response.content.readline() == b"retry: 1000\n"
        assert await response.content.readline() == b"\n"
    streaming.steered.orders.put_nowait(None)


# Silence


async def test_silence_is_filled_in_server_sent_events_and_in_lines_when_asked_for(tmp_path: Path) -> None:
    steered = Steered()
    async with control_plane(tmp_path, stream_keep_alive=0.05) as server, Http(server.url) as http:
        assert server.message_queue is not None
        async with at_work(WorkflowService(steered, server.message_queue, service_name="steered"), server.url):
            streaming = Streaming(http, (await http.post("/sessions/create"))[1], steered)
            path = await streaming.start("steered")
            async with (
                http.stream(f"{path}/events") as sent,
                http.stream(f"{path}/result_stream?keep_alive=true") as lively,
                http.stream(f"{path}/result_stream") as documented,
            ):
                await sent.content.readuntil(b"\n\n")
                assert [await sent.content.readuntil(b"\n\n") for _ in range(3)] == [b": still here\n\n"] * 3
                assert [await lively.content.readline() for _ in range(3)] == [b"\n"] * 3
                steered.orders.put_nowait(5)
                assert (await lively.content.readline()).strip() in (b"", b'{"number":5,"note":""}')
                steered.orders.put_nowait(None)
                assert await lines(documented) == [{"number": 5, "note": ""}, {"result": "done"}]
                rest = b"".join([line async for line in lively.content])
                assert b'{"result":"done"}\n' in rest


# Limits


async def test_streams_beyond_the_limit_are_refused_until_one_has_ended(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_streams=2) as server, Http(server.url) as http:
        await http.post("/services/register", {"service_name": "nobody", "description": ""})
        _, session = await http.post("/sessions/create")
        _, task = await http.post(f"/sessions/{session}/tasks", {"input": "{}", "service_id": "nobody"})
        path = f"/sessions/{session}/tasks/{task}"
        async with http.stream(f"{path}/events"):
            async with http.stream(f"{path}/result_stream"):
                for kind in ("events", "result_stream"):
                    async with http.stream(f"{path}/{kind}") as response:
                        assert response.headers["Retry-After"] == "1"
                        answer = response.status, await response.json()
                    refused(answer, 503, "too_many_streams", "CONTROL_PLANE_MAX_STREAMS")
            await left(server, http, 1)
            async with http.stream(f"{path}/events") as response:
                assert response.status == 200
        await left(server, http, 0)


async def left(server: ControlPlaneServer, http: Http, count: int) -> None:
    """Ask something else until no more readers than these are there."""
    while server.core.streams.open > count:
        await http.get("/health")


class Large(Workflow):
    """Streams an event of so many characters, and returns as many."""

    @step
    async def say(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Progress(number=1, note="x" * ev.event))
        return StopEvent(result="x" * ev.result)


async def test_an_event_beyond_the_limit_fails_its_task_and_a_large_result_does_not(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_event=10_000) as server, Http(server.url) as http:
        assert server.message_queue is not None
        async with at_work(WorkflowService(Large(), server.message_queue, service_name="large"), server.url):
            streaming = Streaming(http, (await http.post("/sessions/create"))[1], Steered())
            path = await streaming.start("large", event=10_001, result=1)
            status, result = await http.get(f"{path}/result?wait=20")
            assert (status, result["status"], result["error"]["code"]) == (200, "failed", "payload_too_large")
            assert "CONTROL_PLANE_MAX_EVENT" in result["error"]["message"]
            path = await streaming.start("large", event=9_000, result=50_000)
            status, result = await http.get(f"{path}/result?wait=20")
            assert (result["status"], len(result["result"])) == ("completed", 50_000)
            async with http.stream(f"{path}/result_stream") as response:
                read = [line async for line in response.content.iter_any()]
            first, last = b"".join(read).splitlines()
            assert (len(json.loads(first)["note"]), len(json.loads(last)["result"])) == (9_000, 50_000)
