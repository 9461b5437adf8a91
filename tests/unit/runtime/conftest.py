"""The two ways in which a workflow runs, and what a run streamed."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from workflows import Workflow

from arriero.runtime import runner as runner_module
from arriero.runtime.runner import WorkflowRunner

Run = Callable[..., Any]


class Runs:
    """Runs workflows and keeps their events."""

    def __init__(self, way: str = "direct") -> None:
        self.way = way
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.runners: dict[int, WorkflowRunner] = {}

    def runner(self, workflow: Workflow) -> WorkflowRunner:
        return self.runners.setdefault(id(workflow), WorkflowRunner(workflow))

    async def __call__(self, workflow: Workflow, *, context: str | None = None, **arguments: Any) -> Any:
        return await self.runner(workflow).run(
            arguments, run_id="run-1", context=context, on_event=lambda data, name: self.events.append((name, data))
        )


@pytest.fixture(params=["direct", "public"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runs:
    if request.param == "public":
        monkeypatch.setattr(runner_module, "_attach", lambda workflow: None)
    return Runs(request.param)


@pytest.fixture
def direct() -> Runs:
    return Runs()


@pytest.fixture(scope="session", autouse=True)
def _collections_are_quick() -> Iterator[None]:
    """What was imported is not looked at by each of the many collections below."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """No task outlives its run, and none ends with an error that nobody asked for."""
    # Where the engine itself waits for a step that refuses to end, it forgets its own `gather`.
    of_the_engine = "_GatheringFuture" if "public" in request.node.name else "nothing"
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, left
    gc.collect()
    assert not [each for each in complaints if not each["message"].startswith(of_the_engine)]
