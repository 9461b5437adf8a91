"""The asynchronous client of the control plane against a real server, and how long its connections live."""

import asyncio
import gc
import subprocess
import sys
from typing import Any

import pytest

from arriero.client import AsyncLlamaDeployClient, AsyncSessionClient, ClientSettings, transport
from arriero.client.settings import default_settings, half_of_open_files
from arriero.types.errors import ConfigurationError, InvalidInput, UnknownService, UnknownSession
from arriero.types.services import ServiceDefinition
from arriero.types.settings import ControlPlaneConfig
from tests.unit.client.plane import Call, Plane, PlaneInThread

SESSION = {"session_id": "S", "task_ids": ["T"], "state": {"a": 1}}
SERVICE = {"service_name": "svc", "description": "d", "prompt": [], "host": None, "port": None}


async def answer(call: Call) -> None:
    """The documented answers, for one session S and one service svc."""
    answers: dict[tuple[str, str], Any] = {
        ("POST", "/sessions/create"): call.json.get("session_id") if call.body else "new",
        ("GET", "/sessions"): {"S": SESSION},
        ("GET", "/sessions/S"): SESSION,
        ("POST", "/sessions/S/delete"): None,
        ("GET", "/services"): {"svc": SERVICE},
        ("GET", "/services/svc"): SERVICE,
        ("POST", "/services/register"): {"host": "127.0.0.1", "port": 8000},
        ("POST", "/services/deregister"): None,
    }
    if (call.method, call.path) in answers:
        call.reply(answers[call.method, call.path])
    elif call.path.startswith("/services/"):
        call.refuse(UnknownService("there is no such service; there are: svc"))
    elif call.path.endswith("/tasks"):
        call.result()
    else:
        call.refuse(UnknownSession("there is no such session"))


async def test_every_documented_method_works() -> None:
    async with Plane(answer) as plane:
        client = AsyncLlamaDeployClient(plane.config, timeout=5.0)
        assert (await client.create_session()).session_id == "new"
        assert [session.session_id for session in await client.list_sessions()] == ["S"]
        assert (await client.get_session("S")).session_id == "S"
        assert (await client.get_session_definition("S")).state == {"a": 1}
        assert (await client.get_service("svc")).description == "d"
        assert [service.service_name for service in await client.list_services()] == ["svc"]
        await client.register_service(ServiceDefinition(service_name="svc", description="d"))
        await client.delete_session("S")


async def test_a_session_client_keeps_the_timeout_and_the_interval_that_it_was_made_with() -> None:
    async with Plane(answer) as plane:
        session = await AsyncLlamaDeployClient(plane.config, timeout=5.0).create_session(poll_interval=0.25)
        assert (session.timeout, session.poll_interval) == (5.0, 0.25)
        assert await session.run("svc") == "hello"


async def test_a_session_of_a_wanted_id_gets_that_id() -> None:
    async with Plane(answer) as plane:
        session = await AsyncLlamaDeployClient(plane.config).get_or_create_session("mine")
        assert session.session_id == "mine"
        (call,) = plane.calls
        assert (call.target, call.json) == ("/sessions/create", {"session_id": "mine"})


async def test_a_list_is_read_page_by_page_to_its_end() -> None:
    pages = {"": (["A", "B"], "B%2F1"), "B/1": (["C"], "C"), "C": ([], "")}

    async def paged(call: Call) -> None:
        ids, following = pages[call.query.get("after", "")]
        more = {"X_Next_After": following} if following else {}
        if call.path == "/sessions":
            call.reply({name: {"session_id": name} for name in ids}, **more)
        else:
            call.reply([{"input": "{}", "task_id": name} for name in ids], **more)

    async with Plane(paged) as plane:
        client = AsyncLlamaDeployClient(plane.config, timeout=5.0)
        assert [session.session_id for session in await client.list_sessions()] == ["A", "B", "C"]
        tasks = await AsyncSessionClient(plane.config, "S", timeout=5.0).get_tasks()
        assert [task.task_id for task in tasks] == ["A", "B", "C"]
        assert [call.target for call in plane.calls[:3]] == ["/sessions", "/sessions?after=B%2F1", "/sessions?after=C"]


async def test_deregistering_names_the_service_in_the_query() -> None:
    async with Plane(answer) as plane:
        await AsyncLlamaDeployClient(plane.config).deregister_service("my svc")
        (call,) = plane.calls
        assert (call.path, call.query, call.body) == ("/services/deregister", {"service_name": "my svc"}, b"")


async def test_what_is_unknown_is_a_typed_error_and_a_value_error() -> None:
    async with Plane(answer) as plane:
        client = AsyncLlamaDeployClient(plane.config)
        for call in (client.get_session("X"), client.get_session_definition("X"), client.delete_session("X")):
            with pytest.raises(UnknownSession) as caught:
                await call
            assert isinstance(caught.value, ValueError)
        with pytest.raises(UnknownService, match="there are: svc"):
            await client.get_service("X")


async def test_an_id_that_would_change_the_route_is_never_sent() -> None:
    async with Plane(answer) as plane:
        client = AsyncLlamaDeployClient(plane.config)
        for name in ("../services", "S/state", "a\0b"):
            for call in (client.get_session(name), client.get_or_create_session(name), client.delete_session(name)):
                with pytest.raises(InvalidInput):
                    await call
        assert plane.calls == []


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        AsyncLlamaDeployClient(ControlPlaneConfig(), timeout=timeout)


@pytest.mark.parametrize("host", ["", "a b", "x#y", "x?y="])
async def test_an_address_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="address of a control plane"):
        await AsyncLlamaDeployClient(ControlPlaneConfig(host=host)).list_sessions()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_CLIENT_MAX_CONNECTIONS", "7")
    assert ClientSettings().max_connections == 7
    assert default_settings() is default_settings()


def test_connections_never_take_the_last_open_file() -> None:
    resource = pytest.importorskip("resource")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 16 <= half_of_open_files() <= max(16, soft // 2)


async def test_closing_a_client_closes_the_connections_that_nobody_else_uses() -> None:
    async with Plane(answer) as plane:
        async with AsyncLlamaDeployClient(plane.config) as client:
            session = await client.create_session()
            await session.run("svc")
            (connection,) = plane.open
        assert plane.open == {connection}
        await session.run("svc")
        assert plane.open == {connection}
        await session.aclose()
        await connection.gone.wait()
        await session.aclose()


async def test_a_closed_client_opens_anew() -> None:
    async with Plane(answer) as plane:
        client = AsyncLlamaDeployClient(plane.config)
        for _ in range(3):
            await client.list_sessions()
            await client.aclose()
        assert plane.connections == 3


async def test_a_pool_outlives_clients_that_were_never_closed() -> None:
    async with Plane(answer) as plane:
        for _ in range(3):
            await AsyncLlamaDeployClient(plane.config).list_sessions()
            gc.collect()
        assert plane.connections == 1


def test_a_client_works_in_one_loop_after_another() -> None:
    with PlaneInThread(answer) as plane:
        client = AsyncLlamaDeployClient(plane.config)
        session = AsyncSessionClient(plane.config, "S")
        for _ in range(3):
            assert len(asyncio.run(client.list_sessions())) == 1
            assert asyncio.run(session.run("svc")) == "hello"
        assert plane.connections == 6


def test_a_client_works_in_several_loops_by_turns() -> None:
    with PlaneInThread(answer) as plane, asyncio.Runner() as one, asyncio.Runner() as two:
        session = AsyncSessionClient(plane.config, "S")
        for runner in (one, two, one, two):
            assert runner.run(session.run("svc")) == "hello"
        assert plane.connections == 2


def test_a_loop_that_ends_closes_its_connections_and_is_forgotten() -> None:
    known = dict(transport._pools)  # noqa: SLF001 - the thread of synchronous clients has pools that stay
    with PlaneInThread(answer) as plane:
        asyncio.run(AsyncLlamaDeployClient(plane.config).list_sessions())
        assert transport._pools == known  # noqa: SLF001 - nothing else shows a leak


SCRIPT = """
import asyncio, sys
from arriero import AsyncLlamaDeployClient, ControlPlaneConfig

async def main():
    client = AsyncLlamaDeployClient(ControlPlaneConfig(port=int(sys.argv[1])))
    session = await client.create_session()
    print(await session.run("svc", name="x"))
    return client, session

async def main_with_streams():
    client, session = await main()
    kept = session.get_task_result_stream("T")
    print(await anext(kept))
    async for event in session.get_task_result_stream("T"):
        print(event)
        break
    return client, session, kept

"""
ENDINGS = {
    "asyncio.run": "asyncio.run(main())",
    "asyncio.run with streams left early": "asyncio.run(main_with_streams())",
    "the result kept until the end": "kept = asyncio.run(main_with_streams())",
    "a loop that is only closed": "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); loop.close()",
    "a loop that is not even closed": "loop = asyncio.new_event_loop(); loop.run_until_complete(main())",
    "a loop that is not even kept": "asyncio.new_event_loop().run_until_complete(main())",
    "two loops": "asyncio.run(main()); asyncio.run(main())",
    "uvloop": "import uvloop; uvloop.run(main_with_streams())",
    "a uvloop that is not even closed": "import uvloop; uvloop.new_event_loop().run_until_complete(main())",
    "an open client at an exit": "asyncio.new_event_loop().run_until_complete(main()); sys.exit(0)",
    "a run in flight": "async def go(): await main(); asyncio.create_task(main_with_streams())\nasyncio.run(go())",
}


async def answer_streams(call: Call) -> None:
    if not call.path.endswith("/events"):
        return await answer(call)
    call.begin_events()
    call.event(1, {"n": 1})
    await call.gone.wait()
    return None


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_that_closes_nothing_ends_in_silence(ending: str) -> None:
    with PlaneInThread(answer_streams) as plane:
        command = [sys.executable, "-c", SCRIPT + ENDINGS[ending], str(plane.port)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert "hello" in done.stdout


@pytest.mark.parametrize("ending", ["asyncio.run", "asyncio.run with streams left early", "two loops", "uvloop"])
def test_with_a_proper_loop_not_even_strict_warnings_say_anything(ending: str) -> None:
    with PlaneInThread(answer_streams) as plane:
        command = [sys.executable, "-W", "error", "-c", SCRIPT + ENDINGS[ending], str(plane.port)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
