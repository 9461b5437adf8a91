"""Cancels and deadlines reach what runs and what waits, with a core and workers in processes of their own."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from arriero import AsyncLlamaDeployClient, AsyncSessionClient, Client, TaskDefinition
from arriero.types.errors import AlreadyEnded, TaskCancelled, TaskTimedOut
from arriero.types.tasks import TaskStatus
from tests.harness import Core, Process, Worker
from tests.scenarios.flows import HERE, Reply

#: Seconds within which a handler stops, once its task was ended.
AT_ONCE = 2.0


class Heart:
    """Hears the beats of one task of the service ``beat``."""

    def __init__(self) -> None:
        self.port = 0
        self.began = asyncio.Event()
        self.stopped = asyncio.Event()
        self._server: asyncio.Server

    @property
    def task(self) -> TaskDefinition:
        return TaskDefinition(input=json.dumps({"port": self.port}), service_id="beat")

    async def stops(self) -> None:
        async with asyncio.timeout(AT_ONCE):
            await self.stopped.wait()

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        self.began.set()
        while await reader.read(100):
            pass
        self.stopped.set()
        writer.close()


@asynccontextmanager
async def heart() -> AsyncIterator[Heart]:
    heart = Heart()
    async with await asyncio.start_server(heart.hear, "127.0.0.1", 0) as server:
        heart.port = server.sockets[0].getsockname()[1]
        yield heart


@pytest.fixture
async def session(client: AsyncLlamaDeployClient) -> AsyncSessionClient:
    return await client.create_session()


async def test_a_cancelled_handler_stops_whichever_client_says_so(session: AsyncSessionClient, core: Core) -> None:
    async with heart() as beats:
        task_id = await session.create_task(beats.task)
        await beats.began.wait()
        with Client(control_plane_url=core.url).sync as other:
            other.core.sessions.get(session.session_id).cancel(task_id)
        await beats.stops()
    with pytest.raises(TaskCancelled, match="a client asked for it"):
        async for _ in session.get_task_result_stream(task_id):
            pass


async def test_a_queued_task_that_is_cancelled_never_starts(session: AsyncSessionClient) -> None:
    async with heart() as first, heart() as second, heart() as third:
        ids = [await session.create_task(beats.task) for beats in (first, second, third)]
        await first.began.wait()
        assert (await session.status(ids[1])).status is TaskStatus.QUEUED
        assert (await session.cancel(ids[1])).status is TaskStatus.CANCELLED
        await session.cancel(ids[0])
        await first.stops()
        await third.began.wait()
        assert not second.began.is_set()
        await session.cancel(ids[2])
        await third.stops()
    assert [task.attempts for task in await session.get_tasks()] == [0, 0, 0]


async def test_a_deadline_stops_the_handler_and_names_its_limit(session: AsyncSessionClient) -> None:
    async with heart() as beats:
        task_id = await session.create_task(beats.task.model_copy(update={"deadline": 1.0}))
        await beats.began.wait()
        with pytest.raises(TaskTimedOut, match=r"deadline of 1 s.*`deadline` of the task") as raised:
            async for _ in session.get_task_result_stream(task_id):
                pass
        await beats.stops()
    assert raised.value.error is not None
    assert raised.value.error.details == {"limit": 1.0, "setting": "deadline"}
    shown = await session.status(task_id)
    assert (shown.deadline, shown.status) == (1.0, TaskStatus.TIMED_OUT)


@pytest.mark.shows("deadline.waiting")
async def test_a_deadline_counts_while_a_task_is_queued(session: AsyncSessionClient) -> None:
    async with heart() as first, heart() as late:
        ahead = await session.create_task(first.task)
        await first.began.wait()
        waiting = await session.create_task(late.task.model_copy(update={"deadline": 0.3}))
        with pytest.raises(TaskTimedOut, match=r"0\.3 s"):
            async for _ in session.get_task_result_stream(waiting):
                pass
        assert (await session.status(ahead)).status is TaskStatus.RUNNING
        await session.cancel(ahead)
        await first.stops()
        assert not late.began.is_set()


@pytest.mark.shows("cancel.children")
async def test_cancels_and_deadlines_reach_what_runs_below_a_task(core: Core, session: AsyncSessionClient) -> None:
    async with (
        Worker(f"{HERE}:Beating", service="beating", core=core),
        Worker(f"{HERE}:Delegating", service="delegating", core=core),
        heart() as below,
        heart() as late,
    ):
        task = below.task.model_copy(update={"service_id": "delegating"})
        await session.create_task(task)
        await below.began.wait()
        await session.cancel(task.task_id, reason="enough")
        await below.stops()
        more = {"service_id": "delegating", "deadline": 1.0}
        timed = await session.create_task(late.task.model_copy(update=more))
        await late.began.wait()
        with pytest.raises(TaskTimedOut, match="deadline of 1 s"):
            async for _ in session.get_task_result_stream(timed):
                pass
        await late.stops()


async def test_a_task_that_waits_for_an_answer_is_cancelled(session: AsyncSessionClient) -> None:
    task_id = await waiting(session)
    assert (await session.cancel(task_id, reason="nobody answers")).status is TaskStatus.CANCELLED
    with pytest.raises(AlreadyEnded):
        await session.send_event("asking", task_id, Reply(text="blue"))
    assert await session.run("greeting", name="Ada") == "hello Ada"


@pytest.mark.shows("deadline.waiting")
async def test_a_deadline_counts_while_a_task_waits_for_an_answer(session: AsyncSessionClient) -> None:
    task_id = await waiting(session, deadline=1.0)
    with pytest.raises(TaskTimedOut, match=r"deadline of 1 s"):
        async for _ in session.get_task_result_stream(task_id):
            pass
    following = await waiting(session)  # the session goes on with its next task
    await session.send_event("asking", following, Reply(text="blue"))
    assert [entry.status async for entry in session.follow(following)][-1] is TaskStatus.COMPLETED


async def waiting(session: AsyncSessionClient, deadline: float | None = None) -> str:
    """A task that has asked its question."""
    task_id = await session.create_task(TaskDefinition(input="{}", service_id="asking", deadline=deadline))
    stream = session.follow(task_id)
    async with aclosing(stream):
        assert (await anext(stream)).type == "Question"
    return task_id


SCRIPT = """
import sys
from arriero import ControlPlaneConfig, SessionClient

session = SessionClient(ControlPlaneConfig(port=int(sys.argv[1])), sys.argv[2])
session.run("beat", port=int(sys.argv[3]))
"""


async def test_ctrl_c_ends_a_script_that_waits_and_not_its_task(session: AsyncSessionClient, core: Core) -> None:
    async with heart() as beats, Process("-c", SCRIPT, str(core.port), session.session_id, str(beats.port)) as script:
        await beats.began.wait()
        assert await script.interrupt(within=AT_ONCE) == -signal.SIGINT
        task = await session.get_current_task()
        assert task is not None
        assert task.status is TaskStatus.RUNNING
        await session.cancel(task.task_id)
        await beats.stops()


async def test_a_deleted_session_stops_its_handlers(
    client: AsyncLlamaDeployClient, session: AsyncSessionClient
) -> None:
    async with heart() as beats:
        await session.create_task(beats.task)
        await beats.began.wait()
        await client.delete_session(session.session_id)
        await beats.stops()
