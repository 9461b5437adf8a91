"""Streams of the asynchronous session client, against a real server."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from arriero.client import AsyncSessionClient, ClientSettings
from arriero.types.errors import ProtocolError, TaskFailed, UnknownTask, WaitTimeout
from tests.unit.client.plane import Call, Plane


def session(plane: Plane, timeout: float | None = 20.0, **settings: Any) -> AsyncSessionClient:
    return AsyncSessionClient(plane.config, "S", timeout, settings=ClientSettings(**settings))


async def never(call: Call) -> None:
    await call.gone.wait()


async def events(client: AsyncSessionClient) -> list[dict[str, Any]]:
    return [event async for event in client.get_task_result_stream("T")]


async def test_a_stream_gives_each_event_as_it_comes_until_the_end() -> None:
    received = asyncio.Event()

    async def stream(call: Call) -> None:
        call.begin_events()
        call.chunk(b": hello\n\n")
        call.event(1, {"progress": 0.5})
        await received.wait()
        call.entry(2, "restarted", {"kind": "restarted", "epoch": 2})
        call.event(3, {"result": "hello"})
        call.end(4)

    seen = []
    async with Plane(stream) as plane:
        async for event in session(plane).get_task_result_stream("T"):
            seen.append(event)
            received.set()
        assert plane.calls[0].target == "/sessions/S/tasks/T/events"
    assert seen == [{"progress": 0.5}, {"result": "hello"}]


async def test_a_stream_goes_on_over_dropped_connections_and_restarts_without_gap_or_repeat() -> None:
    async def stream(call: Call) -> None:
        seq = int(call.headers.get("last-event-id", 0)) + 1
        call.begin_events()
        call.event(seq, {"n": seq})
        if seq == 3:
            call.entry(4, "event", {"kind": "event", "data": {"n": 4}})
            call.transport.write(b'20\r\nid: 5\nevent: event\ndata: {"kind')
        if seq == 10:
            call.end(11)
        call.drop()

    async with Plane(stream) as plane:
        assert await events(session(plane)) == [{"n": n} for n in range(1, 11)]
    assert [call.headers.get("last-event-id") for call in plane.calls] == [None, "1", "2", "4", "5", "6", "7", "8", "9"]


async def test_a_server_that_begins_anew_each_time_repeats_nothing() -> None:
    async def stream(call: Call) -> None:
        call.begin_events()
        for n in range(1, len(plane.calls) + 1):
            call.event(n, {"n": n})
        if len(plane.calls) == 4:
            call.end(5)
        call.drop()

    async with Plane(stream) as plane:
        assert await events(session(plane)) == [{"n": n} for n in range(1, 5)]


async def test_a_stream_survives_a_restart() -> None:
    first = asyncio.Event()

    async def hold(call: Call) -> None:
        call.begin_events()
        call.event(1, {"n": 1})
        first.set()
        await call.gone.wait()

    async def rest(call: Call) -> None:
        assert call.headers["last-event-id"] == "1"
        call.begin_events()
        call.event(2, {"n": 2})
        call.end(3)

    async with Plane(hold) as plane:
        stream = asyncio.create_task(events(session(plane)))
        await first.wait()
        await plane.stop()
        plane.answer = rest
        await plane.start()
        assert await stream == [{"n": 1}, {"n": 2}]


async def test_a_stream_of_a_task_that_fails_gives_its_events_and_then_raises() -> None:
    async def stream(call: Call) -> None:
        call.begin_events()
        call.event(1, {"n": 1})
        call.end(2, "failed", {"code": "task_failed", "type": "ValueError", "message": "no such luck"})

    async with Plane(stream) as plane:
        reading = session(plane).get_task_result_stream("T")
        assert await anext(reading) == {"n": 1}
        with pytest.raises(TaskFailed, match="no such luck"):
            await anext(reading)


async def test_a_stream_whose_first_event_does_not_come_is_a_timeout() -> None:
    async def silent(call: Call) -> None:
        call.begin_events()
        call.chunk(b": still here\n\n")
        await call.gone.wait()

    for answer in (silent, never):
        async with Plane(answer) as plane:
            with pytest.raises(WaitTimeout, match=r"task T .* 0\.1 s"):
                await events(session(plane, 0.1))


async def test_a_stream_that_has_begun_may_take_longer_than_the_limit() -> None:
    async def slow(call: Call) -> None:
        call.begin_events()
        call.event(1, {"n": 1})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await call.gone.wait()
        call.event(2, {"n": 2})
        call.end(3)

    async with Plane(slow) as plane:
        assert await events(session(plane, 0.1)) == [{"n": 1}, {"n": 2}]


async def test_a_stream_that_falls_silent_is_resumed() -> None:
    async def stream(call: Call) -> None:
        call.begin_events()
        if len(plane.calls) == 1:
            call.event(1, {"n": 1})
            await call.gone.wait()
        call.end(2)

    async with Plane(stream) as plane:
        assert await events(session(plane, stream_silence=0.1)) == [{"n": 1}]
        assert len(plane.calls) == 2


async def test_a_stream_of_an_unknown_task_is_a_typed_error() -> None:
    async def unknown(call: Call) -> None:
        call.refuse(UnknownTask("there is no task 'T'"))

    async with Plane(unknown) as plane:
        with pytest.raises(UnknownTask, match="there is no task"):
            await events(session(plane))


async def test_what_is_no_stream_is_a_typed_error() -> None:
    async def page(call: Call) -> None:
        call.send(b"<html></html>", 200, "text/html")

    async def json_answer(call: Call) -> None:
        call.reply(None)

    for answer in (page, json_answer):
        async with Plane(answer) as plane:
            with pytest.raises(ProtocolError, match="GET /sessions/S/tasks/T/events"):
                await events(session(plane))


async def test_leaving_a_stream_early_closes_its_connection() -> None:
    gone: asyncio.Future[asyncio.Event] = asyncio.get_running_loop().create_future()

    async def stream(call: Call) -> None:
        gone.set_result(call.gone)
        call.begin_events()
        call.event(1, {"n": 1})
        await call.gone.wait()

    async with Plane(stream) as plane:
        async for event in session(plane).get_task_result_stream("T"):
            assert event == {"n": 1}
            break
        await (await gone).wait()


async def test_many_readers_of_one_stream_all_get_everything() -> None:
    async def stream(call: Call) -> None:
        call.begin_events()
        for n in range(1, 101):
            call.event(n, {"n": n})
        call.end(101)

    async with Plane(stream) as plane:
        read = await asyncio.gather(*[events(session(plane)) for _ in range(50)])
    assert Counter(len(one) for one in read) == {100: 50}
