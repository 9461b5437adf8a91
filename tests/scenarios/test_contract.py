"""What the servers answer is what they describe, whatever they are sent: schemathesis asks, with all its checks.

``CONTRACT_EXAMPLES`` says how many cases each operation gets from each run, besides those that its description names.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from arriero import TaskDefinition
from tests.harness import Core, Process, Worker
from tests.scenarios.flows import HERE

ROOT = Path(__file__).parents[2]
EXAMPLES = os.environ.get("CONTRACT_EXAMPLES", "20")
#: Seconds that one run may take.
PATIENCE = 900
TOKEN = "deploys-k3v9x1q7m5t2"
#: A wait is as short as that, for most of what is sent to wait will not end.
SHORT = {"CONTROL_PLANE_MAX_WAIT": "0.1"}
#: A session and a task of it that has ended.
KNOWN = """
[parameters]
"path.session_id" = "S"
"path.task_id" = "T"
"""
RUN = "from schemathesis.cli import schemathesis; schemathesis()"

pytestmark = [pytest.mark.timeout(PATIENCE), pytest.mark.asyncio(loop_scope="session")]


@dataclass
class Parts:
    """A core and a worker of it."""

    core: Core
    worker: Worker

    @property
    def queue_url(self) -> str:
        return f"http://127.0.0.1:{self.core.queue_port}"


@asynccontextmanager
async def parts(env: dict[str, str]) -> AsyncIterator[Parts]:
    async with Core(env=SHORT | env) as core:
        given = {name: value for name, value in env.items() if name == "ARRIERO_TOKEN"}
        async with Worker(f"{HERE}:Greeting", service="greeting", core=core, env=given) as worker:
            yield Parts(core, worker)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plain() -> AsyncIterator[Parts]:
    """Without tokens."""
    async with parts({}) as plain:
        yield plain


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded() -> AsyncIterator[Parts]:
    """With a token, and with a task that has ended."""
    async with parts({"ARRIERO_TOKEN": TOKEN, "ARRIERO_TOKENS": f"deploy:{TOKEN}"}) as guarded:
        async with guarded.core.client() as client:
            session = await client.get_or_create_session("S")
            await session.create_task(TaskDefinition(input='{"name": "Ada"}', task_id="T", service_id="greeting"))
            assert [event async for event in session.get_task_result_stream("T")]
        yield guarded


async def holds(url: str, *arguments: str, token: str | None = None, config: str | None = None) -> None:
    """Ask a server for as much as ``EXAMPLES`` says, and fail with what schemathesis tells of each failure."""
    env = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "SCHEMATHESIS_HOOKS": "tests.scenarios.contract_hooks",
    }
    options = ["run", f"{url}/openapi.json", "--no-color", "--continue-on-failure", "--max-examples", EXAMPLES]
    options += ["--request-timeout", "10"] + (["--generation-deterministic"] if os.environ.get("CI") else [])
    if token is not None:
        options += ["--header", f"Authorization: Bearer {token}"]
    asking = Process("-c", RUN, env=env)
    if config is not None:
        (asking.folder / "schemathesis.toml").write_text(config)
    asking.arguments += [*options, *arguments]
    async with asking:
        assert await asking.ended(PATIENCE) == 0, asking.log


async def test_the_servers_answer_as_they_describe(plain: Parts) -> None:
    async with asyncio.TaskGroup() as group:
        for url in (plain.core.url, plain.queue_url, plain.worker.url):
            group.create_task(holds(url))


async def test_with_a_token_they_answer_as_they_describe_for_what_is_there(guarded: Parts) -> None:
    kept = ("--exclude-path", "/sessions/{session_id}/delete")
    async with asyncio.TaskGroup() as group:
        group.create_task(holds(guarded.core.url, *kept, token=TOKEN, config=KNOWN))
        group.create_task(holds(guarded.queue_url, token=TOKEN))
        group.create_task(holds(guarded.worker.url, token=TOKEN))
