"""Streams through a real nginx that buffers answers and closes what is silent for too long.

The times are those of a usual set-up, thirty times as fast: a limit of 60 s on silence, keep-alives every 15 s, and a
task that says nothing for 90 s.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from arriero import AsyncLlamaDeployClient, ControlPlaneConfig, WorkflowService
from tests.proxy import Nginx
from tests.scenarios.system import Http, at_work, control_plane
from tests.scenarios.test_streams import Steered, Streaming, sent_events

LIMIT = 2
KEEP_ALIVE = 0.5
SILENCE = 3.0
#: Seconds from the making of an event to its arrival.
PROMPT = 0.3


class Behind(Streaming):
    nginx: Nginx


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    steered = Steered()
    async with (
        control_plane(tmp_path, stream_keep_alive=KEEP_ALIVE) as server,
        Nginx(server.url, LIMIT) as nginx,
        Http(nginx.url) as http,
    ):
        assert server.message_queue is not None
        async with at_work(WorkflowService(steered, server.message_queue, service_name="steered"), server.url):
            _, session = await http.post("/sessions/create")
            found = Behind(http, session, steered)
            found.nginx = nginx
            yield found


@pytest.mark.parametrize("kind", ["events", "result_stream"])
async def test_each_event_comes_at_once(behind: Behind, kind: str) -> None:
    path = await behind.start("steered")
    async with behind.http.stream(f"{path}/{kind}") as response:
        for number in range(10):
            behind.steered.orders.put_nowait(number)
            made = time.monotonic()
            while b'"number":%d,' % number not in (line := await response.content.readline()):
                assert line
            assert time.monotonic() - made < PROMPT
        behind.steered.orders.put_nowait(None)
        assert b"done" in await response.read()


@pytest.mark.parametrize("target", ["events", "result_stream?keep_alive=true"])
async def test_a_stream_outlives_a_silence_that_is_longer_than_the_limit(behind: Behind, target: str) -> None:
    path = await behind.start("steered")
    began = time.monotonic()
    async with behind.http.stream(f"{path}/{target}") as response:
        while time.monotonic() - began < SILENCE:
            assert await response.content.readline(), "the proxy has closed the stream"
        behind.steered.orders.put_nowait(1)
        behind.steered.orders.put_nowait(None)
        assert b"done" in await response.read()


async def test_the_limit_is_a_limit_and_the_documented_lines_are_cut_by_it(behind: Behind) -> None:
    path = await behind.start("steered")
    async with behind.http.stream(f"{path}/result_stream") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    behind.steered.orders.put_nowait(None)


async def test_a_client_goes_on_when_the_proxy_is_restarted(behind: Behind) -> None:
    path = await behind.start("steered")
    numbers: asyncio.Queue[int] = asyncio.Queue()

    async def follow() -> list[int]:
        config = ControlPlaneConfig(host="127.0.0.1", port=int(behind.nginx.url.rpartition(":")[2]))
        seen = []
        async with AsyncLlamaDeployClient(config, timeout=20.0) as client:
            session = await client.get_session(behind.session)
            async for event in session.get_task_result_stream(path.rpartition("/")[2]):
                if "number" in event:
                    seen.append(event["number"])
                    numbers.put_nowait(event["number"])
        return seen

    following = asyncio.ensure_future(follow())
    for number in range(20):
        behind.steered.orders.put_nowait(number)
        assert await numbers.get() == number
        if number in (5, 10):
            await behind.nginx.stop()
            await behind.nginx.start()
    behind.steered.orders.put_nowait(None)
    assert await following == list(range(20))


async def test_a_reader_that_comes_back_goes_on_behind_its_last_event(behind: Behind) -> None:
    path = await behind.start("steered")
    seen, last = [], 0
    for number in range(3):
        behind.steered.orders.put_nowait(number)
        async with behind.http.stream(f"{path}/events", headers={"Last-Event-ID": str(last)}) as response:
            async for event in sent_events(response):
                seen.append(json.dumps(event.data["data"]))
                last = event.id
                break
    assert seen == [json.dumps({"number": number, "note": ""}) for number in range(3)]
    behind.steered.orders.put_nowait(None)
