"""A step that has a workflow as a parameter: in a notebook, and once it is deployed."""

import asyncio
import gc
from typing import Annotated, Any

import llama_agents.workflows as mirrored
import pytest
import workflows
from llama_agents.workflows import step as mirrored_step
from workflows import Context
from workflows import step as engine_step
from workflows.errors import WorkflowValidationError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.resource import Resource, ResourceManager
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

import arriero
from arriero.runtime import runner as runner_module
from arriero.runtime.children import NestedService
from arriero.services.handlers import WorkflowHandler
from arriero.types.errors import (
    ConfigurationError,
    InvalidInput,
    TaskFailed,
    TooDeep,
    UnknownService,
)
from tests.unit.runtime.desk import Desk


@pytest.fixture(params=["direct", "public"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which workflows run."""
    if request.param == "public":
        monkeypatch.setattr(runner_module, "_attach", lambda workflow: None)
    return str(request.param)


class Note(Event):
    text: str


class Double(workflows.Workflow):
    @engine_step
    async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Note(text=f"doubling {ev.value}"))
        return StopEvent(result=ev.value * 2)


class Outer(arriero.Workflow):
    @arriero.step
    async def only(self, ev: StartEvent, double: Double) -> StopEvent:
        return StopEvent(result=await double.run(value=ev.value))


class ByText(arriero.Workflow):
    @arriero.step(num_workers=2)
    async def only(self, ev: StartEvent, double: "Double") -> StopEvent:
        return StopEvent(result=await double.run(value=ev.value))


class Plain(workflows.Workflow):
    @engine_step
    async def only(self, ev: StartEvent, double: Double) -> StopEvent:
        return StopEvent(result=await double.run(value=ev.value))


class Mirrored(mirrored.Workflow):
    @mirrored_step
    async def only(self, ev: StartEvent, *, double: Double | None = None) -> StopEvent:
        return StopEvent(result=await double.run(value=ev.value) if double is not None else None)


def core_step(*args: Any, **kwargs: Any) -> Any:
    """The engine's step as `llama_index.core.workflow` passes it on."""
    kwargs.pop("pass_context", None)
    return engine_step(*args, **kwargs)


class OfCore(workflows.Workflow):
    @core_step(pass_context=True)
    async def only(self, ctx: Context, ev: StartEvent, double: "Double") -> StopEvent:
        return StopEvent(result=await double.run(value=ev.value))


class Marked(workflows.Workflow):
    @engine_step
    async def only(self, ev: StartEvent, double: Annotated[Double, arriero.Nested()]) -> StopEvent:
        return StopEvent(result=await double.run(value=ev.value))


class EngineStepOnOurs(arriero.Workflow):
    @engine_step
    async def only(self, ev: StartEvent, double: "Double") -> StopEvent:
        return StopEvent(result=await double.run(value=ev.value))


class Free(arriero.Workflow):
    pass


@engine_step(workflow=Free)
async def free(ev: StartEvent, double: Double) -> StopEvent:
    return StopEvent(result=await double.run(value=ev.value))


class Named(workflows.Workflow):
    @engine_step
    async def only(self, ev: StartEvent, it: Annotated[Double, arriero.Nested("double")]) -> StopEvent:
        return StopEvent(result=await it.run(value=ev.value))


FORMS = [Outer, ByText, Plain, Mirrored, OfCore, Marked, EngineStepOnOurs, Free, Named]


def bind(outer: workflows.Workflow, **named: workflows.Workflow) -> None:
    if isinstance(outer, arriero.Workflow):
        outer.add_workflows(**named)
    else:
        arriero.add_workflows(outer, **named)


async def doubled(value: int) -> int:
    return value * 2


@pytest.mark.parametrize("form", FORMS)
async def test_in_a_notebook_a_step_is_given_the_bound_workflow(form: type[workflows.Workflow]) -> None:
    outer = form()
    bind(outer, double=Double())
    assert await outer.run(value=21) == 42


@pytest.mark.shows("nested.choice")
@pytest.mark.parametrize("form", FORMS)
async def test_once_deployed_it_is_given_the_service_of_that_name(form: type[workflows.Workflow]) -> None:
    desk = Desk({"double": doubled}, value=21)
    assert (await desk.handle(WorkflowHandler(form()))).value == 42
    assert [(service, arguments, patient) for service, arguments, _, patient in desk.calls] == [
        ("double", {"value": 21}, True)
    ]


@pytest.mark.shows("nested.choice")
@pytest.mark.parametrize("form", FORMS)
async def test_while_no_service_has_that_name_the_bound_workflow_runs(form: type[workflows.Workflow]) -> None:
    outer = form()
    bind(outer, double=Double())
    desk = Desk(value=21)
    assert (await desk.handle(WorkflowHandler(outer))).value == 42
    assert desk.seen == [("double", "Note"), ("double", "StopEvent"), ("", "StopEvent")]
    assert [event.last for event in desk.events] == [False, False, True]


async def test_a_result_too_large_for_an_event_still_reaches_its_caller_in_the_same_process() -> None:
    class Caller(Asking):
        async def body(self, double: Any) -> Any:
            return len(await double.run(value="x" * 1000))

    outer = Caller()
    outer.add_workflows(double=Double())
    desk = Desk()
    desk.largest = 1500
    assert (await desk.handle(WorkflowHandler(outer))).value == 2000
    assert desk.seen[-2:] == [("double", "StopEvent"), ("", "StopEvent")]


@pytest.mark.shows("nested.choice")
async def test_it_is_decided_at_each_call() -> None:
    outer = Outer()
    outer.add_workflows(double=Double())
    handler = WorkflowHandler(outer)
    desk = Desk(value=1)
    await desk.handle(handler)
    assert not desk.calls
    later = Desk({"double": doubled}, value=1)
    await later.handle(handler)
    assert [patient for *_, patient in later.calls] == [False]


async def test_a_workflow_that_was_deployed_still_runs_by_itself() -> None:
    outer = Outer()
    outer.add_workflows(double=Double())
    await Desk({"double": doubled}, value=1).handle(WorkflowHandler(outer))
    assert await outer.run(value=4) == 8


@pytest.mark.shows("nested.error")
@pytest.mark.parametrize("form", [Outer, EngineStepOnOurs, Free, ByText])
async def test_in_a_notebook_an_unbound_parameter_is_an_error_that_says_how_to_bind_it(
    form: type[workflows.Workflow],
) -> None:
    with pytest.raises(ConfigurationError, match=r"'double' .*add_workflows\(workflow, double=\.\.\.\)"):
        await form().run(value=1)


async def test_a_parameter_with_a_default_keeps_it_in_a_notebook() -> None:
    outer = Mirrored()
    assert await outer.run(value=1) is None
    WorkflowHandler(outer)
    assert await outer.run(value=1) is None


@pytest.mark.shows("nested.error")
async def test_an_unknown_service_without_a_bound_workflow_fails_the_step() -> None:
    with pytest.raises(Exception, match="no service 'double'") as caught:
        await Desk(value=1).handle(WorkflowHandler(Outer()))
    assert isinstance(caught.value.cause, UnknownService)  # type: ignore[attr-defined]  # a StepFailed


def test_binding_a_name_that_no_step_has_says_which_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"doubel .*: double"):
        Outer().add_workflows(doubel=Double())
    with pytest.raises(ConfigurationError, match="an instance"):
        Outer().add_workflows(double=Double)  # type: ignore[arg-type]  # what is tested


def test_classes_of_a_function_may_be_named_by_text() -> None:
    class Local(workflows.Workflow):
        @engine_step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result="local")

    class Caller(arriero.Workflow):
        @arriero.step
        async def only(self, ev: StartEvent, local: "Local") -> StopEvent:
            return StopEvent(result=await local.run())

    class PlainCaller(workflows.Workflow):
        @engine_step
        async def only(self, ev: StartEvent, local: "Local") -> StopEvent:
            return StopEvent(result=await local.run())

    async def run() -> None:
        for form in (Caller, PlainCaller):
            outer = form()
            bind(outer, local=Local())
            assert await outer.run() == "local"
        assert (await Desk({"local": anything}).handle(WorkflowHandler(PlainCaller()))).value == "served"

    asyncio.run(run())


async def anything(**arguments: Any) -> str:
    return "served"


def test_our_step_takes_all_options_of_the_engine() -> None:
    import inspect

    ours, engines = inspect.signature(arriero.step).parameters, inspect.signature(engine_step).parameters
    assert {name: each.default for name, each in ours.items()} == {name: each.default for name, each in engines.items()}
    with pytest.raises(WorkflowValidationError, match="num_workers"):
        arriero.step(num_workers=0)(Double.only)


def test_a_drawing_of_a_workflow_shows_what_it_nests() -> None:
    from workflows.representation import get_workflow_representation

    graph = get_workflow_representation(Outer())
    assert any(getattr(node, "type_name", None) == "Double" for node in graph.nodes)


async def test_workflows_that_share_a_resource_manager_are_given_their_own() -> None:
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return "slow"

    class Both(arriero.Workflow):
        @arriero.step
        async def only(
            self, ev: StartEvent, double: Double, other: Annotated[str, Resource(slow, cache=False)]
        ) -> StopEvent:
            return StopEvent(result=double is ev.expected)

    class Second(Both):
        @arriero.step
        async def only(self, ev: StartEvent, double: Double) -> StopEvent:
            return StopEvent(result=double is ev.expected)

    manager = ResourceManager()
    inners = Double(), Double()
    waiting, passing = Both(resource_manager=manager), Second(resource_manager=manager)
    waiting.add_workflows(double=inners[0])
    passing.add_workflows(double=inners[1])
    first = waiting.run(expected=inners[0])
    await asyncio.sleep(0.01)
    assert await passing.run(expected=inners[1])
    gate.set()
    assert await first


class Fan(arriero.Workflow):
    @arriero.step
    async def only(self, ev: StartEvent, double: Double) -> StopEvent:
        found = await asyncio.gather(*(double.run(value=n % ev.kinds) for n in range(ev.count)))
        return StopEvent(result=sum(found))


async def test_a_thousand_children_of_one_step() -> None:
    desk = Desk({"double": doubled}, count=1000, kinds=1000)
    assert (await desk.handle(WorkflowHandler(Fan()))).value == 999_000
    assert len(desk.calls) == 1000
    assert len({scope for *_, scope, _ in desk.calls}) == 1


@pytest.mark.shows("again.equal-calls")
async def test_equal_calls_of_one_step_are_children_of_their_own() -> None:
    desk = Desk({"double": doubled}, count=10, kinds=1)
    await desk.handle(WorkflowHandler(Fan()))
    assert len(desk.calls) == 10


async def test_a_thousand_runs_of_a_bound_workflow() -> None:
    outer = Fan()
    outer.add_workflows(double=Double())
    assert (await Desk(count=1000, kinds=1000).handle(WorkflowHandler(outer))).value == 999_000


class Countdown(arriero.Workflow):
    @arriero.step
    async def only(self, ev: StartEvent, me: Annotated["workflows.Workflow", arriero.Nested("me")]) -> StopEvent:
        return StopEvent(result=[ev.n, *(await me.run(n=ev.n - 1))] if ev.n else [0])


async def test_a_workflow_calls_itself_by_its_service() -> None:
    handler = WorkflowHandler(Countdown())

    async def served(**arguments: Any) -> Any:
        return (await Desk({"me": served}, **arguments).handle(handler)).value

    assert await served(n=5) == [5, 4, 3, 2, 1, 0]


async def test_a_workflow_bound_to_itself_runs_in_itself() -> None:
    outer = Countdown()
    outer.add_workflows(me=outer)
    desk = Desk(n=3)
    assert (await desk.handle(WorkflowHandler(outer))).value == [3, 2, 1, 0]
    assert [path for path, _ in desk.seen] == ["me/me/me", "me/me", "me", ""]


async def test_runs_in_one_process_have_a_greatest_depth() -> None:
    outer = Countdown()
    outer.add_workflows(me=outer)
    with pytest.raises(Exception, match="limit is 32") as caught:
        await Desk(n=100).handle(WorkflowHandler(outer))
    assert caught.value.cause.error.code == TooDeep.code  # type: ignore[attr-defined]  # a StepFailed


async def test_a_start_event_goes_as_its_fields() -> None:
    class Typed(StartEvent):
        value: int

    class Caller(arriero.Workflow):
        @arriero.step
        async def only(self, ev: StartEvent, double: Double) -> StopEvent:
            return StopEvent(result=await double.run(start_event=Typed(value=4, more=[1]), ctx=None))  # type: ignore[call-arg]  # events take any

    async def served(value: int, more: list[int]) -> list[Any]:
        return [value, more]

    assert (await Desk({"double": served}).handle(WorkflowHandler(Caller()))).value == [4, [1]]


class Asking(arriero.Workflow):
    """Hands what it is given to the test."""

    @arriero.step
    async def only(self, ev: StartEvent, double: Double) -> StopEvent:
        return StopEvent(result=await self.body(double))

    async def body(self, double: Any) -> Any:
        raise NotImplementedError


async def test_what_a_service_cannot_take_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Caller(Asking):
        async def body(self, double: Any) -> Any:
            assert isinstance(double, NestedService)
            with pytest.raises(InvalidInput, match="ctx"):
                double.run(ctx=Context(self))
            with pytest.raises(InvalidInput, match="run_id"):
                double.run(run_id="x")
            with pytest.raises(InvalidInput, match="'double'"):
                double.run(value={1: object()})
            child = double.run(value=1)
            with pytest.raises(ConfigurationError, match="in the stream of the task"):
                async for _ in child.stream_events():
                    pass
            assert not child.is_done()
            return [await child, child.is_done()]

    assert (await Desk({"double": doubled}).handle(WorkflowHandler(Caller()))).value == [2, True]


async def test_a_failure_of_a_bound_workflow_is_told_as_that_of_a_service() -> None:
    class Broken(workflows.Workflow):
        @engine_step
        async def only(self, ev: StartEvent) -> StopEvent:
            raise KeyError("no such thing")

    class Caller(Asking):
        async def body(self, double: Any) -> Any:
            with pytest.raises(TaskFailed, match="no such thing") as caught:
                await double.run(value=1)
            assert caught.value.error is not None
            return [caught.value.error.type, caught.value.error.details]

    outer = Caller()
    outer.add_workflows(double=Broken())
    assert (await Desk().handle(WorkflowHandler(outer))).value == ["KeyError", {"step": "only"}]


@pytest.mark.shows("again.failed-child")
async def test_a_step_that_is_tried_again_has_the_same_children_unless_they_failed() -> None:
    class Twice(arriero.Workflow):
        tries = 0

        @arriero.step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(3)))
        async def only(self, ev: StartEvent, good: workflows.Workflow, bad: workflows.Workflow) -> StopEvent:
            found = await good.run(value=1), await good.run(value=1)
            return StopEvent(result=[*found, await bad.run()])

    failed = []

    async def fails_once() -> str:
        if not failed:
            failed.append(1)
            raise TaskFailed("not yet")
        return "now"

    desk = Desk({"good": doubled, "bad": fails_once})
    assert (await desk.handle(WorkflowHandler(Twice()))).value == [2, 2, "now"]
    assert [service for service, *_ in desk.calls] == ["good", "good", "bad", "bad"]


async def test_a_step_that_waits_for_an_answer_does_not_call_again() -> None:
    class Waits(arriero.Workflow):
        @arriero.step
        async def only(self, ctx: Context, ev: StartEvent, double: Double) -> StopEvent:
            found = await double.run(value=1)
            answer = await ctx.wait_for_event(
                HumanResponseEvent,
                waiter_event=InputRequiredEvent(prefix="go on?"),  # type: ignore[call-arg]  # events take any
            )
            return StopEvent(result=[found, answer.response])

    desk = Desk({"double": doubled})
    running = asyncio.create_task(desk.handle(WorkflowHandler(Waits())))
    await desk.idled.get()
    desk.send("HumanResponseEvent", response="yes")
    assert (await running).value == [2, "yes"]
    assert len(desk.calls) == 1


@pytest.mark.shows("again.children")
async def test_the_scope_of_a_call_is_the_same_in_every_run_of_the_same_work() -> None:
    scopes = []
    for _ in range(2):
        desk = Desk({"double": doubled}, value=1)
        await desk.handle(WorkflowHandler(Outer()))
        scopes.append(desk.calls[0][2])
    assert scopes[0] == scopes[1]
    assert scopes[0].startswith("only:")
    assert "None" not in scopes[0]


async def test_what_a_step_runs_by_itself_has_children_of_its_own() -> None:
    """The works of two runs have the same names with the engine; their calls are not the same for that."""

    class Runs(Asking):
        async def body(self, double: Any) -> Any:
            plain = Plain()
            return [await plain.run(value=2), await plain.run(value=2), await double.run(value=2)]

    desk = Desk({"double": doubled})
    handler = WorkflowHandler(Runs())
    WorkflowHandler(Plain())  # has the steps of its class supplied
    assert (await desk.handle(handler)).value == [4, 4, 4]
    assert len({scope for *_, scope, _ in desk.calls}) == 3


class Never:
    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, **arguments: Any) -> Any:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


class Forgetful(arriero.Workflow):
    @arriero.step
    async def only(self, ev: StartEvent, double: Double) -> StopEvent:
        double.run(value=1)
        if ev.wait:
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)
        return StopEvent(result="left")


async def test_a_cancelled_run_waits_for_no_child() -> None:
    never = Never()
    desk = Desk({"double": never}, value=1)
    running = asyncio.create_task(desk.handle(WorkflowHandler(Outer())))
    await never.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert never.ended.is_set()
    assert desk.under_way == 0


@pytest.mark.parametrize("wait", [True, False])
async def test_a_child_that_nobody_awaits_does_not_outlive_its_run(*, wait: bool) -> None:
    never = Never()
    desk = Desk({"double": never}, wait=wait)
    running = asyncio.create_task(desk.handle(WorkflowHandler(Forgetful())))
    await never.began.wait()
    if wait:
        running.cancel()
    await asyncio.wait({running})
    assert never.ended.is_set()


async def test_a_cancelled_run_ends_the_runs_of_bound_workflows_with_it() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    class Long(workflows.Workflow):
        @engine_step
        async def only(self, ev: StartEvent) -> StopEvent:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return StopEvent()

    middle = Outer()
    middle.add_workflows(double=Long())
    outer = Outer()
    outer.add_workflows(double=middle)
    running = asyncio.create_task(Desk(value=1).handle(WorkflowHandler(outer)))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()


async def test_a_call_after_the_end_of_the_run_is_refused() -> None:
    kept: list[Any] = []

    class Keeps(Asking):
        async def body(self, double: Any) -> Any:
            kept.append(double)

    await Desk().handle(WorkflowHandler(Keeps()))
    gc.collect()
    with pytest.raises(ConfigurationError, match="while the run goes on"):
        kept[0].run(value=1)
