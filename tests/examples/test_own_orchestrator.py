"""The orchestrator of the how-to page does what the page says."""

import asyncio
import re
from pathlib import Path

from arriero import (
    AsyncLlamaDeployClient,
    ControlPlaneConfig,
    ControlPlaneServer,
    FunctionService,
    SimpleMessageQueue,
)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "wire-it-yourself.md"


def documented_orchestrator() -> type:
    [code] = re.findall(r"```python\n(from typing.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, type] = {}
    exec(code, names)  # noqa: S102 - it is the project's own page
    return names["FirstThenSecond"]


async def first(text: str) -> str:
    return f'{{"text": "{text}, then washed"}}'


async def second(text: str) -> str:
    return f"{text}, then spun"


async def test_a_task_goes_through_both_services_in_turn() -> None:
    queue = SimpleMessageQueue()
    config = ControlPlaneConfig(state_store_uri="memory:")
    control_plane = ControlPlaneServer(queue, documented_orchestrator()(), config=config)
    async with asyncio.TaskGroup() as parts:
        tasks = [parts.create_task(control_plane.launch_server())]
        await control_plane.started.wait()
        for function in (first, second):
            service = FunctionService(function, queue, service_name=function.__name__)
            await service.register_to_control_plane(control_plane.url)
            tasks.append(parts.create_task((await service.register_to_message_queue())()))
        async with AsyncLlamaDeployClient(config) as client:
            session = await client.create_session()
            assert await session.run("first", text="shorn") == "shorn, then washed, then spun"
        for task in reversed(tasks):
            task.cancel()
