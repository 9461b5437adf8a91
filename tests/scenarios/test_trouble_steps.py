"""Steps that raise, leave, never return or return what cannot be: the task ends typed, the worker goes on."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from arriero import AsyncSessionClient
from arriero.types.errors import TaskFailed, TaskTimedOut
from arriero.types.services import ServiceDefinition
from arriero.types.tasks import TaskDefinition, TaskStatus
from tests.harness import Core, Worker, environment
from tests.scenarios.gate import gate_here
from tests.scenarios.troubles import HERE

ROOT = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
#: A typed error comes within this time of the fact.
PROMPT = 2.0


def serve(name: str, core: Core, service: str, **options: Any) -> Worker:
    return Worker(f"{HERE}:{name}", service=service, core=core, env={"PYTHONPATH": ROOT}, **options)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def workers(core: Core) -> AsyncIterator[None]:
    """One worker with one slot for each kind of trouble."""
    async with (
        serve("Misbehaving", core, "misbehaving", concurrency=1),
        serve("Returning", core, "returning", concurrency=1),
        serve("returning", core, "returning function", concurrency=1),
        serve("Blocking", core, "blocking", concurrency=1),
        serve("blocking", core, "blocking function", concurrency=1),
        serve("Wordy", core, "wordy", concurrency=1),
    ):
        yield


@pytest.fixture
async def session(core: Core, workers: None) -> AsyncIterator[AsyncSessionClient]:
    async with core.client() as client:
        yield await client.create_session()


async def failed(session: AsyncSessionClient, service: str, **arguments: Any) -> TaskFailed:
    with pytest.raises(TaskFailed) as raised:
        await session.run(service, **arguments)
    return raised.value


# Results that are not JSON


@pytest.mark.parametrize(
    "kind", ["object", "nan", "infinity", "bytes", "cycle", "surrogate", "digits", "key", "deep", "inside", "function"]
)
@pytest.mark.parametrize("service", ["returning", "returning function"])
async def test_a_result_that_is_no_json_fails_the_task_and_says_where(
    session: AsyncSessionClient, service: str, kind: str
) -> None:
    error = (await failed(session, service, kind=kind)).error
    assert error is not None
    assert error.code == "not_json"
    assert "is not JSON" in error.message
    assert len(error.message) < 1000


async def test_a_set_becomes_a_list(session: AsyncSessionClient) -> None:
    assert await session.run("returning", kind="set") == "[1,2]"


@pytest.mark.parametrize("kind", ["object", "nan", "surrogate", "cycle"])
async def test_an_event_that_is_no_json_fails_the_task(session: AsyncSessionClient, kind: str) -> None:
    error = (await failed(session, "returning", kind=kind, stream=True)).error
    assert error is not None
    assert error.code == "not_json"


@pytest.mark.parametrize("service", ["returning", "returning function"])
async def test_a_result_beyond_the_limit_fails_the_task_with_the_limit(
    session: AsyncSessionClient, service: str
) -> None:
    error = (await failed(session, service, kind="large")).error
    assert error is not None
    assert error.code == "payload_too_large"
    assert error.details["limit"] == 32 * 1024 * 1024


async def test_a_stream_of_many_large_events_comes_whole(session: AsyncSessionClient) -> None:
    task = await session.run_nowait("wordy", count=60, size=1000 * 1024)
    numbers = [event["number"] async for event in session.get_task_result_stream(task) if "number" in event]
    assert numbers == list(range(60))


# Steps that raise


@pytest.mark.parametrize(
    ("deed", "type", "word"),
    [
        ("raise_it", "LookupError", "no such thing"),
        ("raise_unprintable", "Unprintable", "Unprintable"),
        ("raise_surrogate", "ValueError", "half a character"),
        ("raise_huge", "ValueError", "xxx"),
        ("raise_base", "BaseException", "as low as it gets"),
        ("raise_group", "ExceptionGroup", "two"),
        ("cancel_itself", "CancelledError", "enough"),
        ("leave", "SystemExit", "3"),
        ("unknown", "AttributeError", "unknown"),
    ],
)
async def test_a_step_that_raises_fails_its_task_by_type_message_and_step(
    session: AsyncSessionClient, deed: str, type: str, word: str
) -> None:
    began = time.monotonic()
    raised = await failed(session, "misbehaving", deed=deed)
    assert time.monotonic() - began < PROMPT
    assert raised.error is not None
    assert (raised.error.type, raised.error.details["step"]) == (type, "misbehave")
    assert word in raised.error.message
    assert len(raised.error.message) < 20_000
    assert await session.run("misbehaving", deed="fine") == "fine"


@pytest.mark.parametrize("service", ["blocking", "blocking function"])
async def test_a_thread_that_raises_stop_iteration_fails_its_task(session: AsyncSessionClient, service: str) -> None:
    assert "StopIteration" in str(await failed(session, service, stop=True))
    assert await session.run(service) == "unblocked"


# Steps that never return


def deadline(service: str, seconds: float, arguments: str) -> TaskDefinition:
    return TaskDefinition(input=arguments, service_id=service, deadline=seconds)


async def timed_out(session: AsyncSessionClient, service: str, arguments: str) -> None:
    """The task is ``timed_out`` within 2 s of its deadline, and the only slot of the worker is free."""
    began = time.monotonic()
    task = await session.create_task(deadline(service, 1.0, arguments))
    with pytest.raises(TaskTimedOut, match=r"deadline of 1 s.*`deadline`"):
        async for _ in session.get_task_result_stream(task):
            pass
    assert 1.0 <= time.monotonic() - began < 1.0 + PROMPT
    result = await session.get_task_result(task)
    assert result is not None
    assert result.status is TaskStatus.TIMED_OUT


@pytest.mark.parametrize("deed", ["never", "swallow"])
async def test_a_step_that_never_returns_is_timed_out_and_its_slot_is_free(
    session: AsyncSessionClient, deed: str
) -> None:
    await timed_out(session, "misbehaving", f'{{"deed": "{deed}"}}')
    async with asyncio.timeout(PROMPT):
        assert await session.run("misbehaving", deed="fine") == "fine"


@pytest.mark.parametrize("service", ["blocking", "blocking function"])
async def test_threads_that_never_return_are_timed_out_and_take_up_no_slots(
    core: Core, session: AsyncSessionClient, service: str
) -> None:
    async with core.client() as client:
        sessions = [await client.create_session() for _ in range(12)]
        for some in (sessions[:6], sessions[6:]):  # one slot: the first is run, the others wait out their deadlines
            await asyncio.gather(*(timed_out(each, service, '{"seconds": 3600}') for each in some))
            async with asyncio.timeout(PROMPT):
                assert await session.run(service) == "unblocked"


async def test_a_step_that_blocks_the_loop_is_timed_out_and_the_worker_goes_on_when_it_ends(
    session: AsyncSessionClient,
) -> None:
    async with gate_here() as gate:
        await timed_out(session, "misbehaving", f'{{"deed": "block", "port": {gate.port}}}')
        await gate.open("blocked")
        async with asyncio.timeout(PROMPT):
            assert await session.run("misbehaving", deed="fine") == "fine"


async def test_a_worker_full_of_handlers_that_heed_nothing_ends_when_it_is_told(core: Core) -> None:
    async with (
        core.client() as client,
        serve("Misbehaving", core, "stuck", concurrency=2) as stuck,
        serve("blocking", core, "stuck thread", concurrency=2) as thread,
    ):
        sessions = [await client.create_session() for _ in range(3)]
        await timed_out(sessions[0], "stuck", '{"deed": "swallow"}')
        await timed_out(sessions[1], "stuck thread", '{"seconds": 3600}')
        codes = await asyncio.gather(stuck.terminate(within=10), thread.terminate(within=10))
        assert sum(codes) == 0, stuck.log + thread.log


async def test_a_worker_whose_steps_left_threads_behind_ends_when_it_is_told(core: Core) -> None:
    async with core.client() as client, serve("Misbehaving", core, "threads", concurrency=2) as worker:
        session = await client.create_session()
        assert await session.run("threads", deed="leave_a_thread") == "left"
        await timed_out(session, "threads", '{"deed": "wait_for_a_thread"}')
        assert await worker.terminate(within=10) == 0, worker.log


async def test_a_second_signal_ends_a_worker_at_once_even_when_its_loop_is_blocked(core: Core) -> None:
    async with core.client() as client, gate_here() as gate:
        session = await client.create_session()
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *["-m", "arriero", "worker", f"{HERE}:Misbehaving", "--service", "blocked", "--control-plane", core.url],
            env=environment(PYTHONPATH=ROOT),
            stderr=asyncio.subprocess.PIPE,
        )
        assert worker.stderr is not None
        await client.register_service(ServiceDefinition(service_name="blocked", description="known before it serves"))
        task = await session.run_nowait("blocked", deed="block", port=gate.port)
        await gate.arrived("blocked")
        worker.send_signal(signal.SIGTERM)
        while b"draining" not in await worker.stderr.readline():
            pass
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == -signal.SIGTERM
        opening = asyncio.ensure_future(gate.open("blocked"))
        async with serve("Misbehaving", core, "blocked"):
            await opening
            async for _ in session.get_task_result_stream(task):
                pass
            result = await session.get_task_result(task)
            assert result is not None
            assert result.result == "unblocked"
