"""The seam under the engine: what it relies on is there, it changes nothing that shows, and it can be done without.

When one of the first tests fails, a new version of the engine has changed what it does inside: look at it, mend
`arriero.runtime.engine`, and only then raise its bound.
"""

import asyncio
import inspect
import logging
import sys
from importlib.metadata import version
from typing import Any

import pytest
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span_handlers import NullSpanHandler
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.plugins.basic import BasicRuntime, basic_runtime
from workflows.runtime.control_loop import control_loop
from workflows.runtime.runtime_decorators import BaseInternalRunAdapterDecorator, BaseRuntimeDecorator
from workflows.runtime.types.plugin import InternalRunAdapter
from workflows.runtime.types.ticks import WorkflowTick

from arriero.runtime import engine
from arriero.runtime.runner import WorkflowRunner
from arriero.types.errors import TaskTimedOut
from tests.unit.runtime import flows
from tests.unit.runtime.conftest import Runs


def test_the_engine_is_the_one_that_the_seam_was_written_for() -> None:
    assert version("llama-index-workflows").startswith(engine.EXPECTED)


def test_a_workflow_has_what_the_seam_uses() -> None:
    workflow = flows.Echo()
    assert not [name for name in engine.NEEDED if not hasattr(workflow, name)]
    assert inspect.signature(Workflow.__init__).parameters["timeout"].default == 45.0
    assert list(inspect.signature(control_loop).parameters) == ["start_event", "init_state", "run_id"]
    assert callable(Context._create_internal)  # noqa: SLF001  # used by the seam


def test_the_engine_asks_its_adapter_what_we_answer() -> None:
    abstract = {"run_id", "write_to_event_stream", "get_now", "send_event", "wait_receive"}
    assert InternalRunAdapter.__abstractmethods__ == abstract
    offered = {name for name in vars(InternalRunAdapter) if not name.startswith("_")} - abstract
    assert offered == {
        "after_tick",
        "close",
        "finalize_step",
        "get_state_store",
        "is_replaying",
        "on_tick",
        "wait_for_next_task",
    }


def test_workflows_are_run_by_the_seam() -> None:
    assert engine.attach(flows.Echo()) is not None


class Counted(flows.Chain):
    """Counts how often its steps are looked up."""

    lookups = 0

    def _get_steps(self) -> Any:
        type(self).lookups += 1
        return super()._get_steps()


async def test_steps_are_looked_up_once(direct: Runs) -> None:
    workflow = Counted()
    await direct(workflow, text="x")
    before = Counted.lookups
    for _ in range(5):
        await direct(workflow, text="x")
    assert Counted.lookups == before


async def test_a_step_that_is_added_later_is_found(direct: Runs) -> None:
    class Growing(Workflow):
        @step
        async def first(self, ev: StartEvent) -> flows.Half | StopEvent:
            return flows.Half(text="x") if ev.get("on") else StopEvent(result="first")

    workflow = Growing(disable_validation=True)
    assert (await direct(workflow)).value == "first"

    @step(workflow=Growing)
    async def second(ev: flows.Half) -> StopEvent:
        return StopEvent(result="second")

    assert (await direct(workflow, on=True)).value == "second"


async def test_preparing_a_workflow_twice_changes_nothing_more(direct: Runs) -> None:
    workflow = flows.Echo()
    first, second = WorkflowRunner(workflow), WorkflowRunner(workflow)
    runtime = workflow.runtime
    assert isinstance(runtime, BaseRuntimeDecorator)
    for runner in (first, second, first):
        handled = await runner.run({"value": 1}, run_id="r", context=None, on_event=lambda data, name: None)
        assert handled.value == 1
    assert workflow.runtime is runtime


async def test_runs_of_one_id_do_not_meet(direct: Runs) -> None:
    runner = direct.runner(flows.Gathering(2, timeout=None))
    both = (
        runner.run({"name": name}, run_id="same", context=None, on_event=lambda data, name: None) for name in ("a", "b")
    )
    assert [each.value for each in await asyncio.gather(*both)] == [["a"], ["b"]]


@pytest.mark.shows("deadline.workflow")
def test_the_limit_that_nobody_chose_is_lifted_and_a_chosen_one_stays() -> None:
    chosen: dict[str, Any] = {"int": 45, "float": 45.0, "other": 10.0, "none": None}
    left = {name: prepared_timeout(flows.Echo(timeout=timeout)) for name, timeout in chosen.items()}
    assert left == chosen
    assert prepared_timeout(flows.Echo()) is None
    assert prepared_timeout(Slow()) == 45.0


class Slow(flows.Echo):
    """Passes a limit of its own on, which happens to be the default."""

    def __init__(self, timeout: float = 45.0, **kwargs: Any) -> None:
        super().__init__(timeout=timeout, **kwargs)


def prepared_timeout(workflow: Workflow) -> float | None:
    engine.lift_default_timeout(workflow)
    return workflow._timeout  # noqa: SLF001  # no public name


async def test_a_limit_holds_after_a_run_without_one(direct: Runs) -> None:
    workflow = flows.Forever()
    task = asyncio.create_task(direct(workflow))
    await workflow.began.wait()
    task.cancel()
    await asyncio.wait({task})
    with pytest.raises(TaskTimedOut):
        await direct(flows.Forever(timeout=0.02))


async def test_only_as_many_runs_as_the_workflow_allows_are_at_once(direct: Runs) -> None:
    most = 0
    now = 0

    class Narrow(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return StopEvent()

    runner = direct.runner(Narrow(num_concurrent_runs=2))
    runs = (runner.run({}, run_id=f"r{n}", context=None, on_event=lambda data, name: None) for n in range(10))
    await asyncio.gather(*runs)
    assert most == 2


class Listener(NullSpanHandler):
    """Notes the spans that begin and end."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[str, str, str | None]] = []

    def span_enter(self, id_: str, *args: Any, parent_id: str | None = None, **kwargs: Any) -> None:
        self._seen.append(("enter", id_.rsplit("-", 5)[0], parent_id and parent_id.rsplit("-", 5)[0]))

    def span_exit(self, id_: str, *args: Any, **kwargs: Any) -> None:
        self._seen.append(("exit", id_.rsplit("-", 5)[0], None))

    @property
    def seen(self) -> list[tuple[str, str, str | None]]:
        return self._seen


@pytest.mark.parametrize("name", ["root", "workflows.workflow"])
async def test_spans_are_made_when_someone_listens(direct: Runs, name: str) -> None:
    workflow = flows.Echo()
    listener = Listener()
    dispatcher = get_dispatcher(name)
    await direct(workflow)
    dispatcher.add_span_handler(listener)
    try:
        await direct(workflow)
    finally:
        dispatcher.span_handlers.remove(listener)
    await direct(workflow)
    steps = [("enter", "Echo.only", "Echo.run"), ("exit", "Echo.only", None)]
    run = [("enter", "Echo.run", None), *steps, ("exit", "Echo.run", None)]
    assert listener.seen == (run if name == "root" else steps)


async def test_a_verbose_workflow_still_tells_what_it_does(direct: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert (await direct(flows.Echo(verbose=True), value=1)).value == 1
    assert "[only:0] started from StartEvent" in capsys.readouterr().out
    assert direct.events == [("StopEvent", {"result": 1})]


async def test_a_runtime_that_decorates_sees_every_tick_of_our_runs(direct: Runs) -> None:
    """The way for a journal: on_tick is awaited before anything that the tick causes is done."""
    seen: list[str] = []

    class Adapter(BaseInternalRunAdapterDecorator):
        async def on_tick(self, tick: WorkflowTick) -> None:
            seen.append(tick.type)
            await super().on_tick(tick)

    class Journal(BaseRuntimeDecorator):
        def get_internal_adapter(self, workflow: Workflow) -> InternalRunAdapter:
            return Adapter(super().get_internal_adapter(workflow))

    workflow = flows.Chain(runtime=Journal(BasicRuntime()))
    assert (await direct(workflow, text="x")).value == "xab"
    assert seen == ["session_start", "add_event", "step_result", "add_event", "step_result"]


async def test_a_workflow_on_another_kind_of_runtime_is_run_by_the_public_interface(direct: Runs) -> None:
    class Own(BasicRuntime):
        pass

    workflow = flows.Streaming(runtime=Own())
    assert engine.attach(workflow) is None
    assert (await direct(workflow, count=1)).value == {"count": 1}
    assert [name for name, _ in direct.events] == ["Progress", "StopEvent"]


async def test_another_engine_is_used_by_its_public_interface_and_that_is_said(
    direct: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "EXPECTED", "1.0.")
    assert (await direct(flows.Echo(), value=1)).value == 1
    assert f"The workflow engine is version {version('llama-index-workflows')}" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_so_is_one_whose_inside_cannot_be_imported(
    direct: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "arriero.runtime.engine", None)
    handled = await direct(flows.Remembering(), key="a", value=1)
    assert handled.context is not None
    assert "The workflow engine is not the one expected" in caplog.text


async def test_so_is_one_that_lacks_what_the_seam_uses(
    direct: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "NEEDED", (*engine.NEEDED, "_no_such_thing"))
    assert (await direct(flows.Echo(), value=1)).value == 1
    assert "The workflow engine lacks _no_such_thing" in caplog.text


async def test_our_runtime_leaves_the_runs_of_others_to_the_basic_one(direct: Runs) -> None:
    inner = flows.Echo()
    WorkflowRunner(inner)

    class Outer(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await inner.run(value="inner"))

    assert (await direct(Outer())).value == "inner"
    assert direct.events == [("StopEvent", {"result": "inner"})]
    assert not basic_runtime._queues  # noqa: SLF001  # the engine's registry of runs


async def test_a_runner_may_be_used_within_a_run_of_another(direct: Runs) -> None:
    inner = WorkflowRunner(flows.Streaming())
    below: list[str] = []

    class Outer(Workflow):
        @step
        async def call(self, ctx: Context, ev: StartEvent) -> StopEvent:
            handled = await inner.run(
                {"count": 2}, run_id="inner", context=None, on_event=lambda data, name: below.append(name)
            )
            ctx.write_event_to_stream(flows.Progress(step=9))
            return StopEvent(result=handled.value)

    assert (await direct(Outer())).value == {"count": 2}
    assert below == ["Progress", "Progress", "StopEvent"]
    assert [name for name, _ in direct.events] == ["Progress", "StopEvent"]
