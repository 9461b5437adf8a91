"""Sessions through real processes: each has its own context and state, and goes without a trace."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from arriero import AsyncLlamaDeployClient, AsyncSessionClient, TaskDefinition
from arriero.types.tasks import TaskStatus
from tests.harness import Core, Worker
from tests.scenarios.faces import NAMES, Face, each, result
from tests.scenarios.flows import HERE, Reply
from tests.scenarios.test_cancel import heart


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def quiet() -> AsyncIterator[Core]:
    """A core with a few services, for those who look into its store."""
    served = {"beat": "beat", "remembering": "Remembering", "failing": "Failing", "asking": "Asking"}
    async with Core() as core, AsyncExitStack() as stack:
        workers = [Worker(f"{HERE}:{name}", service=service, core=core) for service, name in served.items()]
        await asyncio.gather(*(stack.enter_async_context(worker) for worker in workers))
        yield core


def rows(core: Core) -> set[tuple[str, str]]:
    """What the store holds by name: its documents, and the entries of its logs."""
    path = core.state.removeprefix("sqlite:///")
    store = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        documents = store.execute("SELECT collection, key FROM documents").fetchall()
        return {*documents, *store.execute("SELECT log, CAST(seq AS TEXT) FROM entries").fetchall()}
    finally:
        store.close()


async def test_fifty_sessions_at_once_on_one_workflow_keep_their_values_apart(client: AsyncLlamaDeployClient) -> None:
    sessions = await asyncio.gather(*(client.create_session() for _ in range(50)))
    words = {session.session_id: [f"{number}-{word}" for word in range(4)] for number, session in enumerate(sessions)}

    async def talk(session: AsyncSessionClient) -> None:
        own = words[session.session_id]
        told = await asyncio.gather(*(session.call("remembering", {"word": word}) for word in own))
        order = max(told, key=len)
        assert sorted(order) == own
        assert sorted(told, key=len) == [order[: number + 1] for number in range(len(own))]
        assert await session.call("remembering", {"word": "last"}) == [*order, "last"]

    await asyncio.gather(*map(talk, sessions))


async def test_fifty_sessions_keep_their_states_apart(client: AsyncLlamaDeployClient) -> None:
    sessions = await asyncio.gather(*(client.create_session() for _ in range(50)))
    await asyncio.gather(
        *(session.update_state({"number": number}) for number, session in enumerate(sessions)),
        *(session.update_state({f"key-{key}": key}) for session in sessions for key in range(3)),
    )
    states = await asyncio.gather(*(session.get_state() for session in sessions))
    more = {f"key-{key}": key for key in range(3)}
    assert states == [{"number": number, **more} for number in range(50)]


async def test_a_session_without_order_runs_its_tasks_at_once(core: Core, client: AsyncLlamaDeployClient) -> None:
    env = {"LLAMA_DEPLOY_WF_SERVICE_SESSION_CONCURRENCY": "parallel"}
    async with (
        Worker(f"{HERE}:Beating", service="beating", core=core, env=env),
        heart() as first,
        heart() as second,
    ):
        session = await client.create_session()
        ids = [
            await session.create_task(TaskDefinition(input=json.dumps({"port": beats.port}), service_id="beating"))
            for beats in (first, second)
        ]
        await asyncio.gather(first.began.wait(), second.began.wait())
        for task_id in ids:
            await session.cancel(task_id)
        await asyncio.gather(first.stops(), second.stops())


@pytest.mark.parametrize("name", NAMES)
async def test_a_session_that_is_deleted_leaves_nothing_in_the_store(quiet: Core, name: str) -> None:
    async with Face(name, quiet) as face, heart() as running, heart() as queued:
        await result((await face.create()).run("remembering", word="stays"))
        before = rows(quiet)
        session = await face.get_or_create("to-be-deleted")
        await result(session.update_state({"a": [1] * 1000}))
        for word in ("one", "two"):
            await result(session.run("remembering", word=word))
        failed = await result(session.run_nowait("failing", text="broken"))
        answered, open_still = [await result(session.run_nowait("asking")) for _ in range(2)]
        await result(session.send_event("asking", answered, Reply(text="blue"), idempotency_key="mine"))
        assert [entry.kind async for entry in each(session.follow(answered))][-1] == "end"
        async for entry in each(session.follow(open_still)):
            assert entry.type == "Question"
            break
        await result(session.create_task(running.task.model_copy(update={"deadline": 600.0})))
        await running.began.wait()
        await result(session.create_task(queued.task.model_copy(update={"deadline": 600.0})))
        last = await result(session.get_current_task())
        assert (await result(session.cancel(last.task_id))).status is TaskStatus.CANCELLED
        await result(session.create_task(queued.task))
        assert [task.task_id for task in await result(session.get_tasks())][2] == failed
        assert len(rows(quiet) - before) > 15
        await face.delete("to-be-deleted")
        await running.stops()
        assert not queued.began.is_set()
        left = {row for row in rows(quiet) - before if "to-be-deleted" in " ".join(row)}
        assert left == set()
        assert rows(quiet) == before
