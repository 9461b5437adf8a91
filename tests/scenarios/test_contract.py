"""What the servers answer is what they describe, whatever they are sent: schemathesis asks, with all its checks.

``CONTRACT_EXAMPLES`` says how many cases each operation gets from each run, besides those that its description names.
"""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from arriero import TaskDefinition
from tests.harness import Core, Process, Worker
from tests.scenarios.flows import HERE

ROOT = Path(__file__).parents[2]
EXAMPLES = os.environ.get("CONTRACT_EXAMPLES", "50")
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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plain() -> AsyncIterator[Core]:
    """A core without tokens, and a worker of it."""
    async with Core(env=SHORT) as core, Worker(f"{HERE}:Greeting", service="greeting", core=core):
        yield core


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded() -> AsyncIterator[Core]:
    """A core with a token, a worker of it, and a task that has ended."""
    given = {"ARRIERO_TOKEN": TOKEN}
    env = SHORT | given | {"ARRIERO_TOKENS": f"deploy:{TOKEN}"}
    async with Core(env=env) as core, Worker(f"{HERE}:Greeting", service="greeting", core=core, env=given):
        async with core.client() as client:
            session = await client.get_or_create_session("S")
            await session.create_task(TaskDefinition(input='{"name": "Ada"}', task_id="T", service_id="greeting"))
            assert [event async for event in session.get_task_result_stream("T")]
        yield core


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


async def test_the_control_plane_answers_as_it_describes(plain: Core) -> None:
    await holds(plain.url)


async def test_with_a_token_it_answers_as_it_describes_for_what_is_there(guarded: Core) -> None:
    kept = ("--exclude-path", "/sessions/{session_id}/delete")
    await holds(guarded.url, *kept, token=TOKEN, config=KNOWN)
