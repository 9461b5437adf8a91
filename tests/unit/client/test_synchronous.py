"""The synchronous clients against a real server: threads, event loops, interrupts, forks."""

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import pytest

from arriero.client import Client, LlamaDeployClient, SessionClient, portal
from arriero.client.nearby import announced
from arriero.types.errors import ConfigurationError, ControlPlaneUnavailable, TaskFailed, WaitTimeout
from arriero.types.settings import ControlPlaneConfig
from tests.unit.client.plane import Call, Plane, PlaneInThread, free_port


async def answer(call: Call) -> None:
    if call.path.endswith("/tasks"):
        call.result(f"hello {call.json['input']}")
    elif call.path.endswith("/events"):
        call.begin_events()
        for number in range(3):
            call.event(number + 1, {"number": number})
        call.end(4)
    else:
        call.reply("S")


async def silent(call: Call) -> None:
    await call.gone.wait()


def test_results_come_to_a_program_without_an_event_loop() -> None:
    with PlaneInThread(answer) as plane, LlamaDeployClient(plane.config, timeout=5.0) as client:
        assert client.create_session().run("svc", x=1) == 'hello {"x":1}'


async def test_it_works_where_an_event_loop_runs() -> None:
    with PlaneInThread(answer) as plane:
        session = SessionClient(plane.config, "S", timeout=5.0)
        assert session.run("svc", x=1) == 'hello {"x":1}'
        assert [event["number"] for event in session.get_task_result_stream("T")] == [0, 1, 2]


def test_many_threads_share_one_client_and_its_connections() -> None:
    with PlaneInThread(answer) as plane, ThreadPoolExecutor(16) as threads:
        session = SessionClient(plane.config, "S", timeout=10.0)
        results = list(threads.map(lambda number: session.run("svc", x=number), range(200)))
        assert results == [f'hello {{"x":{number}}}' for number in range(200)]
        assert plane.connections <= 16


def test_events_come_one_by_one_and_not_at_the_end() -> None:
    go_on = threading.Event()

    async def slowly(call: Call) -> None:
        call.begin_events()
        for number in range(3):
            call.event(number + 1, {"number": number})
            await asyncio.to_thread(go_on.wait)
            go_on.clear()
        call.end(4)

    with PlaneInThread(slowly) as plane:
        seen = []
        for event in SessionClient(plane.config, "S", timeout=10.0).get_task_result_stream("T"):
            seen.append(event["number"])
            go_on.set()
        assert seen == [0, 1, 2]


def test_the_events_before_a_failure_are_given_before_it_raises() -> None:
    async def failing(call: Call) -> None:
        call.begin_events()
        call.event(1, {"number": 0})
        call.end(2, "failed", {"code": "error", "type": "LookupError", "message": "broken"})

    with PlaneInThread(failing) as plane:
        stream = SessionClient(plane.config, "S", timeout=10.0).get_task_result_stream("T")
        assert next(stream) == {"number": 0}
        with pytest.raises(TaskFailed, match="LookupError: broken"):
            next(stream)


def test_a_stream_that_is_left_early_lets_its_connection_go() -> None:
    gone = threading.Event()

    async def endless(call: Call) -> None:
        call.begin_events()
        call.event(1, {"number": 0})
        try:
            await call.gone.wait()
        finally:
            gone.set()

    with PlaneInThread(endless) as plane:
        stream = SessionClient(plane.config, "S", timeout=10.0).get_task_result_stream("T")
        assert next(stream) == {"number": 0}
        stream.close()
        assert gone.wait(10)


def test_a_call_that_takes_longer_than_its_timeout_is_a_timeout() -> None:
    with PlaneInThread(silent) as plane:
        began = time.monotonic()
        with pytest.raises(WaitTimeout) as raised:
            SessionClient(plane.config, "S", timeout=0.2).run("svc")
        assert isinstance(raised.value, TimeoutError)
        assert time.monotonic() - began < 5


def test_a_stream_without_events_times_out_too() -> None:
    with PlaneInThread(silent) as plane, pytest.raises(WaitTimeout):
        next(SessionClient(plane.config, "S", timeout=0.2).get_task_result_stream("T"))


def test_a_call_may_have_a_timeout_of_its_own() -> None:
    with PlaneInThread(silent) as plane, pytest.raises(WaitTimeout, match=r"0\.2 s"):
        SessionClient(plane.config, "S", timeout=60.0).call("svc", {}, timeout=0.2)


def test_a_control_plane_that_is_not_there_is_told() -> None:
    with pytest.raises(ControlPlaneUnavailable, match="cannot be reached"):
        LlamaDeployClient(ControlPlaneConfig(port=free_port()), timeout=0.2).list_sessions()


async def test_a_control_plane_in_the_same_event_loop_is_refused_at_once() -> None:
    async with Plane(answer) as plane:
        session = SessionClient(plane.config, "S", timeout=5.0)
        with announced(plane.config.url, lambda *_: asyncio.sleep(0)):
            with pytest.raises(ConfigurationError, match="to_thread"):
                session.run("svc")
            with pytest.raises(ConfigurationError, match="to_thread"):
                next(session.get_task_result_stream("T"))
            assert await asyncio.to_thread(session.run, "svc", x=1) == 'hello {"x":1}'


def test_ctrl_c_interrupts_a_wait_at_once_and_its_request_is_given_up() -> None:
    asked, gone = threading.Event(), threading.Event()

    async def endless(call: Call) -> None:
        asked.set()
        await call.gone.wait()
        gone.set()

    def press() -> None:
        asked.wait()
        os.kill(os.getpid(), signal.SIGINT)

    with PlaneInThread(endless) as plane:
        threading.Thread(target=press).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            SessionClient(plane.config, "S", timeout=60.0).run("svc")
        assert time.monotonic() - began < 5


def test_the_thread_that_works_for_all_cannot_wait_for_itself() -> None:
    async def again() -> None:
        portal.call(asyncio.sleep, 0)

    with pytest.raises(RuntimeError, match="works for it"):
        portal.call(again)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and the certificate that it signed itself, in one file."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    subject = ["-subj", "/CN=localhost", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    command = ["openssl", "req", "-x509", *subject, "-keyout", path, "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
async def test_a_certificate_that_nobody_knows_is_refused_unless_it_is_not_to_be_looked_at(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for disable_ssl in (True, False):
            async with Client(control_plane_url=url, timeout=5.0, disable_ssl=disable_ssl) as client:
                if disable_ssl:
                    assert await client.core.services.list() == []
                else:
                    with pytest.raises(ControlPlaneUnavailable, match="certificate"):
                        await client.core.services.list()


PROGRAM = """
    import os, sys
    from arriero.client import SessionClient
    from arriero.types.settings import ControlPlaneConfig

    session = SessionClient(ControlPlaneConfig(port=int(sys.argv[1])), "S", timeout=10.0)
    {body}
"""


def output_of(body: str, port: int) -> str:
    program = [sys.executable, "-W", "error", "-c", dedent(PROGRAM).replace("{body}", dedent(body))]
    run = subprocess.run([*program, str(port)], check=False, capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def test_a_program_that_ends_closes_its_connections_without_a_word() -> None:
    with PlaneInThread(answer) as plane:
        assert output_of("print(session.run('svc', x=1))", plane.port) == 'hello {"x":1}\n'


def test_a_program_that_ends_in_the_middle_of_a_stream_ends_without_a_word() -> None:
    async def endless(call: Call) -> None:
        call.begin_events()
        call.event(1, {"number": 0})
        await call.gone.wait()

    with PlaneInThread(endless) as plane:
        body = "stream = session.get_task_result_stream('T'); print(next(stream))"
        assert output_of(body, plane.port) == "{'number': 0}\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_parent_and_child_of_a_fork_both_go_on() -> None:
    body = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks where threads run
def say(x):
    os.write(1, f"{session.run('svc', x=x)}\\n".encode())  # in one piece, for the two write side by side
say(0)
child = os.fork()
say(1 if child else 2)
if child:
    assert os.waitpid(child, 0)[1] == 0
    say(3)
"""
    with PlaneInThread(answer) as plane:
        lines = output_of(body, plane.port).splitlines()
    assert sorted(lines) == [f'hello {{"x":{number}}}' for number in range(4)]


def test_the_sdk_reads_its_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with PlaneInThread(answer) as plane:
        monkeypatch.setenv("LLAMA_DEPLOY_CONTROL_PLANE_URL", plane.config.url + "/")
        monkeypatch.setenv("LLAMA_DEPLOY_TIMEOUT", "5")
        client = Client(poll_interval=0.1)
        assert (client.timeout, client.api_server_url) == (5.0, "http://localhost:4501")
        with client.sync as sync:
            assert sync.core.sessions.create().run("svc", x=1) == 'hello {"x":1}'
        monkeypatch.setenv("LLAMA_DEPLOY_TIMEOUT", "None")
        assert Client().timeout is None


def test_a_setting_that_is_changed_counts_from_then_on() -> None:
    client = Client(control_plane_url="http://127.0.0.1:1")
    before = client.core.caller
    assert client.core.caller is before
    client.timeout = 1.0
    client.disable_ssl = True
    caller = client.core.caller
    assert (caller.timeout, caller.settings.verify_tls, before.settings.verify_tls) == (1.0, False, True)


def test_the_api_server_is_missed_with_a_sentence() -> None:
    with pytest.raises(AttributeError, match="has no API server"):
        _ = Client().apiserver
    with pytest.raises(AttributeError, match="has no API server"):
        _ = Client().sync.apiserver
