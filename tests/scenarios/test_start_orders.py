"""The three scripts of the guide, as separate processes, in every order, all started at once."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arriero import AsyncLlamaDeployClient, ControlPlaneConfig
from tests.harness import Process, free_port

SCRIPTS = Path(__file__).parents[2] / "examples" / "three_scripts"
NAMES = ("core", "worker", "client")
Processes = dict[str, Process]


@pytest.fixture
async def scripts(tmp_path: Path) -> AsyncIterator[Processes]:
    """The scripts as they stand, not started, with ports of their own."""
    ports = {"CONTROL_PLANE_PORT": str(free_port()), "SIMPLE_MESSAGE_QUEUE_PORT": str(free_port())}
    worker_port = str(free_port())  # which stands in the script itself
    for name in NAMES:
        text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8").replace("8002", worker_port)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    processes = {name: Process(f"{name}.py", env=ports, cwd=tmp_path) for name in NAMES}
    yield processes
    for process in processes.values():
        await process.aclose()


def test_the_scripts_are_those_of_the_guide_except_for_their_imports() -> None:
    core, worker, client = ((SCRIPTS / f"{name}.py").read_text(encoding="utf-8") for name in NAMES)
    assert "from arriero import ControlPlaneConfig, SimpleMessageQueueConfig, deploy_core\n" in core
    assert "from arriero import ControlPlaneConfig, WorkflowServiceConfig, deploy_workflow\n" in worker
    assert "from arriero import AsyncLlamaDeployClient, ControlPlaneConfig\n" in client
    for text in (core, worker, client):
        assert text.count("arriero") == 1  # everything else is as it was documented
        assert "sleep" not in text


@pytest.mark.parametrize("order", [pytest.param(order, id="-".join(order)) for order in itertools.permutations(NAMES)])
async def test_in_any_order_all_come_up_the_client_prints_the_result_and_ctrl_c_ends_the_others_well(
    scripts: Processes, order: tuple[str, ...]
) -> None:
    for name in order:
        scripts[name].start()
    assert await scripts["client"].ended(30) == 0
    assert scripts["client"].log.endswith("hello_world_result\n")  # it may have said before that it waits
    assert await scripts["worker"].interrupt() == 0
    assert await scripts["core"].interrupt() == 0
    assert "Traceback" not in "".join(script.log for script in scripts.values())


async def test_ctrl_c_reaches_core_and_worker_at_once_as_in_a_terminal(scripts: Processes) -> None:
    for name in NAMES:
        scripts[name].start()
    assert await scripts["client"].ended(30) == 0
    assert await asyncio.gather(scripts["core"].interrupt(), scripts["worker"].interrupt()) == [0, 0]
    assert "Traceback" not in scripts["core"].log + scripts["worker"].log


SEVERAL = """
import asyncio

from arriero import deploy_core, deploy_function


def shout(text: str) -> str:
    return text.upper()


async def gathered():
    await asyncio.gather(deploy_core(), deploy_function(shout))


async def grouped():
    async with asyncio.TaskGroup() as parts:
        parts.create_task(deploy_core())
        parts.create_task(deploy_function(shout))


asyncio.run(HOW())
"""


@pytest.mark.parametrize("how", ["gathered", "grouped"])
async def test_ctrl_c_ends_several_parts_of_one_program_without_a_traceback(tmp_path: Path, how: str) -> None:
    port = free_port()
    (tmp_path / "parts.py").write_text(SEVERAL.replace("HOW", how), encoding="utf-8")
    env = {"CONTROL_PLANE_PORT": str(port), "SIMPLE_MESSAGE_QUEUE_PORT": str(free_port())}
    async with Process("parts.py", env=env, cwd=tmp_path) as parts:
        client = AsyncLlamaDeployClient(ControlPlaneConfig(port=port))
        session = await client.create_session()
        assert await session.run("shout", text="ready") == "READY"
        assert await parts.interrupt() == -signal.SIGINT  # as any program that Ctrl-C ends
        assert parts.log == ""
