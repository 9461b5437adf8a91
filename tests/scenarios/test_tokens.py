"""Every listener of a real system behind tokens: what is closed, what each scope opens, and who ends at the start."""

import asyncio
import json
import re
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from pydantic import SecretStr

import arriero.types.credentials as credentials_module
from arriero import AsyncLlamaDeployClient, SimpleMessageQueue, WorkflowServiceConfig, deploy_workflow
from arriero.client.caller import AsyncCaller
from arriero.client.requests import list_services
from arriero.services.link import WebSocketLink
from arriero.types.credentials import CredentialSettings
from arriero.types.errors import ArrieroError, Forbidden, TaskFailed, Unauthorized
from arriero.types.link import Hello
from arriero.types.serving import AsgiServer, bind
from tests.harness import Core, Process, Worker, settings_with
from tests.scenarios.flows import HERE, Counting
from tests.scenarios.raw import ask, request
from tests.scenarios.system import Http, at_once, beside, core_here

READ, RUN, DEPLOY = "reads-k3v9x1q7m5t2", "runs-k3v9x1q7m5t2ab", "deploys-k3v9x1q7m5t2"
STRANGE = "nobody-knows-k3v9x1q7"
TOKENS = f"read:{READ},run:{RUN},deploy:{DEPLOY}"
ANYWHERE = "0.0.0.0"  # noqa: S104  # with tokens a server may listen everywhere


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded() -> AsyncIterator[Core]:
    """A core with a token for each scope, whose clients in the test send the one that runs."""
    async with Core(env={"ARRIERO_TOKENS": TOKENS, "ARRIERO_TOKEN": RUN}) as core:
        yield core


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worker(guarded: Core) -> AsyncIterator[Worker]:
    """A service of that core; it is given the token that deploys, and nothing else."""
    target = f"{HERE}:Counting"
    async with Worker(target, service="counting", core=guarded, env={"ARRIERO_TOKEN": DEPLOY}) as worker:
        yield worker


@pytest.fixture(params=["control plane", "queue", "service"])
def listener(request: pytest.FixtureRequest, guarded: Core, worker: Worker) -> str:
    ports = {"control plane": guarded.port, "queue": guarded.queue_port, "service": worker.port}
    return f"http://127.0.0.1:{ports[request.param]}"


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def status_of(http: aiohttp.ClientSession, method: str, url: str, token: str | None = None, **more: Any) -> int:
    async with http.request(method, url, headers=bearer(token) if token else {}, **more) as answer:
        return answer.status


async def routes(http: aiohttp.ClientSession, url: str) -> list[tuple[str, str]]:
    """Every route that is described, and some that are not."""
    async with http.get(f"{url}/openapi.json", headers=bearer(DEPLOY)) as answer:
        described = await answer.json()
    found = [(method, path) for path, methods in described["paths"].items() for method in methods]
    return [*found, *(("get", path) for path in ("/docs", "/openapi.json", "/redoc", "/link", "/nowhere"))]


# Closed doors


@pytest.mark.parametrize("authorization", [None, "", "Bearer ", f"Basic {DEPLOY}", DEPLOY, f"Bearer {STRANGE}"])
async def test_every_route_is_closed_without_a_right_token(
    listener: str, http: aiohttp.ClientSession, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    asked = await routes(http, listener)
    assert len(asked) >= 9
    for method, path in asked:
        async with http.request(method, listener + re.sub(r"{\w+}", "x", path), headers=headers) as answer:
            if path == "/health":
                assert (answer.status, await answer.json()) == (200, {"status": "ok"})
                continue
            assert answer.status == 401, (method, path)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert (await answer.json())["error"]["code"] == "unauthorized"


@pytest.mark.parametrize("body", [b"", b"{", b'{"deep": ' + b"[" * 100_000, b"\xff" * 1000, b"x" * 1_000_000])
async def test_a_wrong_body_without_a_token_is_401_because_nothing_of_it_is_read(
    listener: str, http: aiohttp.ClientSession, body: bytes
) -> None:
    for path in ("/process_message", "/sessions/x/tasks", "/services/register", "/publish", "/sessions/create"):
        assert await status_of(http, "POST", listener + path, data=body) == 401


async def test_a_body_that_never_comes_is_refused_at_once(guarded: Core) -> None:
    head = b"POST /sessions/x/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    assert (await ask(guarded.port, head)).status == 401


@pytest.mark.parametrize(("token", "status"), [(None, 401), (STRANGE, 401), (READ, 403), (RUN, 403)])
async def test_links_and_queue_connections_open_for_those_who_deploy(
    guarded: Core, worker: Worker, http: aiohttp.ClientSession, token: str | None, status: int
) -> None:
    for url in (f"{guarded.url}/link", f"http://127.0.0.1:{guarded.queue_port}/connect"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(url, headers=bearer(token) if token else {})
        assert refused.value.status == status
        async with http.ws_connect(url, headers=bearer(DEPLOY)) as socket:
            assert not socket.closed
    assert " ERROR " not in guarded.log


# Scopes


@pytest.mark.parametrize(
    ("token", "reading", "running", "deploying"),
    [(READ, True, False, False), (RUN, True, True, False), (DEPLOY, True, True, True)],
)
async def test_a_scope_opens_its_own_routes_of_the_control_plane(
    guarded: Core, http: aiohttp.ClientSession, token: str, reading: bool, running: bool, deploying: bool
) -> None:
    async def opens(method: str, path: str, **more: Any) -> bool:
        status = await status_of(http, method, guarded.url + path, token, **more)
        assert status != 401
        return status != 403

    for path in ("/", "/ready", "/services", "/sessions", "/queue_config", "/sessions/x/tasks/y/events", "/docs"):
        assert await opens("GET", path) is reading
    posts = ("create", "x/delete", "x/state", "x/tasks", "x/tasks/y/cancel", "x/tasks/y/events")
    for path in posts:
        assert await opens("POST", f"/sessions/{path}", data=b"{") is running
    for path in ("replay", "drop"):
        assert await opens("POST", f"/dead/x/{path}") is running
    for path in ("/services/register", "/services/deregister", "/process_message", "/workers/x/renew", "/new"):
        assert await opens("POST", path, data=b"{") is deploying
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        assert await opens(method, "/services") is deploying


async def test_the_queue_is_for_those_who_deploy_and_a_service_takes_tasks_from_those_who_run(
    guarded: Core, worker: Worker, http: aiohttp.ClientSession
) -> None:
    queue = f"http://127.0.0.1:{guarded.queue_port}"
    for token, status in ((READ, 403), (RUN, 403), (DEPLOY, 200)):
        assert await status_of(http, "GET", f"{queue}/depth/anything", token) == status
    assert await status_of(http, "POST", f"{worker.url}/process_message", DEPLOY, data=b"{") == 422
    # It was given no tokens to take, so it takes its own alone: it acts with that one.
    assert await status_of(http, "GET", worker.url, RUN) == 401


async def test_clients_run_with_their_token_and_are_told_when_it_does_not_do(guarded: Core, worker: Worker) -> None:
    async with guarded.client() as client:
        session = await client.create_session()
        task_id = await session.run_nowait("counting", upto=3)
        events = [event async for event in session.get_task_result_stream(task_id)]
        assert events
        assert (await session.get_task_result(task_id)).result
        with pytest.raises(Forbidden, match="deploy"):
            await client.deregister_service("counting")
        with pytest.raises(TaskFailed):
            await session.run("counting", upto="no number")
    for token, error in ((None, Unauthorized), (STRANGE, Unauthorized), (READ, Forbidden)):
        async with type(client)(guarded.config, timeout=5, settings=settings_with(token)) as client:
            with pytest.raises(error) as caught:
                await client.create_session()
            assert STRANGE not in str(caught.value)


# Nothing is told


async def test_tokens_are_shown_nowhere(guarded: Core, worker: Worker, http: aiohttp.ClientSession) -> None:
    shown = [guarded.log, worker.log]
    for url in (guarded.url, worker.url, f"http://127.0.0.1:{guarded.queue_port}"):
        for path in ("/", "/openapi.json", "/queue_config", "/services", "/ready"):
            async with http.get(url + path, headers=bearer(DEPLOY)) as answer:
                shown.append(await answer.text())
        async with http.get(f"{url}/ready", headers=bearer(STRANGE)) as answer:
            shown.append(await answer.text() + str(answer.headers))
    definition = {"service_name": "told", "description": "d"}
    async with http.post(f"{guarded.url}/services/register", json=definition, headers=bearer(DEPLOY)) as answer:
        shown.append(await answer.text())
    for token in (READ, RUN, DEPLOY, STRANGE):
        assert token not in "".join(shown)


# At the start


async def ends(process: Process) -> str:
    """What a process says that cannot start."""
    process.start()
    try:
        assert await process.ended() == 1
        return process.log
    finally:
        await process.aclose()


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        ("deploy:changeme", "at least 16"),
        ("deploy:", "is empty"),
        ("deploy:CHANGE_ME_before_you_start", "placeholder"),
        ("deploy:secret_password_secret", "placeholder"),
        (f"owner:{DEPLOY}", "read, run, deploy"),
        ("", "holds no token"),
    ],
)
async def test_a_core_does_not_start_with_tokens_that_protect_nothing(tokens: str, why: str) -> None:
    log = await ends(Core(env={"ARRIERO_TOKENS": tokens}))
    assert why in log
    assert "Traceback" not in log
    assert DEPLOY not in log
    assert "CHANGE_ME" not in log


async def test_a_core_does_not_start_with_a_file_of_tokens_that_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"deploy {DEPLOY}\n", "utf-8")
    file.chmod(0o644)
    log = await ends(Core(env={"ARRIERO_TOKENS_FILE": str(file)}))
    assert "chmod 600" in log
    assert DEPLOY not in log
    file.chmod(0o600)
    async with Core(env={"ARRIERO_TOKENS_FILE": str(file), "ARRIERO_TOKEN": DEPLOY}) as core, core.client() as client:
        assert await client.list_sessions() == []


@pytest.mark.parametrize(("token", "why"), [(STRANGE, "not known"), (RUN, "deploy"), ("changeme", "ARRIERO_TOKEN")])
async def test_a_worker_with_a_wrong_token_ends_and_says_why(guarded: Core, token: str, why: str) -> None:
    log = await ends(Worker(f"{HERE}:Greeting", service="other", core=guarded, env={"ARRIERO_TOKEN": token}))
    assert why in log
    assert "Traceback" not in log
    assert token not in log


@pytest.mark.parametrize("where", ["CONTROL_PLANE_INTERNAL_HOST", "SIMPLE_MESSAGE_QUEUE_INTERNAL_HOST"])
async def test_nothing_listens_beyond_this_machine_without_a_token_that_was_chosen(where: str) -> None:
    for more in ({}, {"CONTROL_PLANE_REQUIRE_TOKEN": "true"}):
        log = await ends(Core(env={where: ANYWHERE, **more}))
        assert "ARRIERO_TOKENS" in log
        assert "Traceback" not in log


async def test_a_service_does_not_listen_beyond_this_machine_without_a_token(core: Core) -> None:
    log = await ends(Worker(f"{HERE}:Greeting", core=core, env={"WORKFLOW_SERVICE_INTERNAL_HOST": ANYWHERE}))
    assert "ARRIERO_TOKENS" in log


async def test_with_tokens_everything_may_listen_everywhere(http: aiohttp.ClientSession) -> None:
    tokens = {"ARRIERO_TOKENS": TOKENS, "ARRIERO_TOKEN": DEPLOY}
    wide = {"CONTROL_PLANE_INTERNAL_HOST": ANYWHERE, "SIMPLE_MESSAGE_QUEUE_INTERNAL_HOST": ANYWHERE}
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(Core(env={**tokens, **wide}))
        env = {**tokens, "WORKFLOW_SERVICE_INTERNAL_HOST": ANYWHERE}
        worker = await stack.enter_async_context(Worker(f"{HERE}:Greeting", service="greeting", core=core, env=env))
        client = await stack.enter_async_context(core.client())
        session = await client.create_session()
        assert await session.run("greeting", name="Ada")
        for port in (core.port, core.queue_port, worker.port):
            answer = await ask(port, request("GET", "/", Host="any.example"))
            assert answer.status == 401
        assert await status_of(http, "GET", worker.url, READ) == 200


# On one machine


async def test_local_processes_find_the_token_of_a_core_that_requires_one(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    script = tmp_path / "client.py"
    script.write_text(CLIENT, "utf-8")
    env = {"CONTROL_PLANE_STATE_STORE_URI": f"sqlite:///{tmp_path}/state.db", "CONTROL_PLANE_REQUIRE_TOKEN": "true"}
    file = tmp_path / "state.db.token"
    core = Core(state=env["CONTROL_PLANE_STATE_STORE_URI"], env=env)
    worker = Worker(f"{HERE}:Greeting", service="greeting", core=core, env=env)
    client = Process(script, env={**env, "CONTROL_PLANE_PORT": str(core.port)})
    stranger = Process(script, env={"CONTROL_PLANE_PORT": str(core.port)})
    parts = (client, worker, core, stranger)
    try:
        for part in parts[:2]:
            part.start()  # before there is a token
        core.start()
        assert await client.ended() == 0, client.log
        assert client.log.splitlines()[-1].startswith("hello")
        token = file.read_text("utf-8").strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for url in (worker.url, core.url):
            assert await status_of(http, "GET", f"{url}/ready", token) == 200
            assert await status_of(http, "GET", f"{url}/ready") == 401
        stranger.start()
        assert await stranger.ended() == 1
        assert "Unauthorized" in stranger.log
        await core.kill()
        core.start()
        again = Process(script, env={**env, "CONTROL_PLANE_PORT": str(core.port)})
        parts = (*parts, again)
        again.start()
        assert await again.ended() == 0, again.log
        assert file.read_text("utf-8").strip() == token
        assert token not in "".join(part.log for part in parts)
    finally:
        for part in parts:
            await part.aclose()


CLIENT = """
import asyncio

from arriero import AsyncLlamaDeployClient, ControlPlaneConfig


async def main():
    async with AsyncLlamaDeployClient(ControlPlaneConfig(), timeout=20) as client:
        session = await client.create_session()
        print(await session.run("greeting", name="Ada"))


asyncio.run(main())
"""


async def test_a_core_without_a_file_or_a_token_does_not_require_one() -> None:
    log = await ends(Core(state="memory:", env={"CONTROL_PLANE_REQUIRE_TOKEN": "true"}))
    assert "ARRIERO_TOKENS" in log


# Web pages, and names that others give to this machine


def opening(path: str, **headers: str) -> bytes:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    return request("GET", path, **upgrade, **headers, **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost/health?", "a#", "127.0.0.1:80@evil", "localhost, evil", "localhost\r\nHost: evil"],
)
async def test_without_tokens_a_foreign_host_reaches_nothing(core: Core, host: str) -> None:
    for port in (core.port, core.queue_port):
        for part in (
            request("GET", "/", Host=host),
            request("GET", "/health", Host=host),
            request("POST", "/sessions/create", Host=host),
            opening("/link" if port == core.port else "/connect", Host=host),
        ):
            assert (await ask(port, part)).status in (400, 421)
    forwarded = request("GET", "/", Host="evil.example", X_Forwarded_Host="localhost", X_Forwarded_Prefix="/health")
    assert (await ask(core.port, forwarded)).status == 421
    absolute = request("GET", "http://127.0.0.1/sessions", Host="evil.example")
    assert (await ask(core.port, absolute)).status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1"])
async def test_without_tokens_a_foreign_page_reaches_nothing(core: Core, origin: str) -> None:
    async with core.client() as client:
        before = len(await client.list_sessions())
        for port in (core.port, core.queue_port):
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                answer = await ask(port, request(method, "/sessions/create", b"{}", Origin=origin))
                assert (answer.status, answer.body["error"]["code"]) == (403, "forbidden")
            path = "/link" if port == core.port else "/connect"
            assert (await ask(port, opening(path, Origin=origin))).status == 403
            assert (await ask(port, opening(path, Origin="http://localhost"))).status == 101
        assert len(await client.list_sessions()) == before


async def test_a_name_that_is_configured_is_taken() -> None:
    env = {"CONTROL_PLANE_ALLOWED_HOSTS": json.dumps(["proxy.example"])}
    async with Core(env=env) as core:
        assert (await ask(core.port, request("GET", "/ready", Host="Proxy.Example"))).status == 200
        assert (await ask(core.port, request("GET", "/ready", Host="other.example"))).status == 421


# Within one process, and to others


async def test_parts_of_one_process_need_no_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_TOKENS", TOKENS)
    async with core_here(tmp_path) as config, Http(config.url) as http:
        assert (await http.get("/sessions"))[0] == 401
        deployed = deploy_workflow(Counting(), WorkflowServiceConfig(service_name="counting"), config)
        async with AsyncLlamaDeployClient(config) as client, beside(deployed, at_once()):
            session = await client.create_session()
            task_id = await session.run_nowait("counting", upto=3)
            events = [event async for event in session.get_task_result_stream(task_id)]
            assert len(events) == 4


async def test_no_token_is_sent_to_where_a_redirect_points(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    sent, followed = asyncio.Event(), asyncio.Event()

    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            seen.extend(value for name, value in scope["headers"] if name == b"authorization")
            followed.set()
            await send({"type": "websocket.close"} if scope["type"] == "websocket" else START)

    async def here(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        assert (b"authorization", f"Bearer {DEPLOY}".encode()) in scope["headers"]
        sent.set()
        prefix = "websocket.http" if scope["type"] == "websocket" else "http"
        location = f"http://localhost:{other.port}{scope['path']}".encode()
        start = {"type": f"{prefix}.response.start", "status": 307, "headers": [(b"location", location)]}
        await send(start)
        await send({"type": f"{prefix}.response.body", "body": b""})

    settings = CredentialSettings(token=SecretStr(DEPLOY))
    monkeypatch.setattr(credentials_module, "credentials", lambda: settings)
    async with (
        AsgiServer(elsewhere, bind("127.0.0.1", 0)) as other,
        AsgiServer(here, bind("127.0.0.1", 0)) as server,
    ):
        caller = AsyncCaller(server.url, 1.0, settings_with(DEPLOY))
        with pytest.raises(ArrieroError):
            await caller.call(list_services())
        await caller.aclose()
        assert sent.is_set()
        sent.clear()
        link = WebSocketLink(server.url)
        with pytest.raises(ArrieroError):
            await asyncio.to_thread(link.renew, "x")
        assert sent.is_set()
        assert not followed.is_set()
        for start in (open_link(link), SimpleMessageQueue(port=server.port).subscribe("x")):
            followed.clear()
            task = asyncio.ensure_future(start)
            await followed.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await link.aclose()
    assert seen == []


START = {"type": "http.response.start", "status": 200, "headers": []}


async def open_link(link: WebSocketLink) -> None:
    await link.open(lambda: Hello(worker_id="x", service="x", slots=1, free=1), lambda stop: None, lambda welcome: None)
