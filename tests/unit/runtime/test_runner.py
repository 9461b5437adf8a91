"""What a run gives, by the seam under the engine and by its public interface alike."""

import asyncio
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.errors import WorkflowTimeoutError
from workflows.events import Event, StartEvent, StopEvent

from arriero.runtime.failures import StepFailed
from arriero.runtime.runner import WorkflowRunner
from arriero.types.errors import ConfigurationError, InvalidInput, NotJSON, TaskTimedOut
from tests.unit.runtime import flows
from tests.unit.runtime.conftest import Runs

STOP = "StopEvent"


@pytest.mark.parametrize("workflow", [flows.Echo, flows.Sync])
async def test_a_step_runs_and_its_result_comes_back(run: Runs, workflow: type[Workflow]) -> None:
    handled = await run(workflow(), value={"a": [1, None, "ü"]})
    assert handled.value == {"a": [1, None, "ü"]}
    assert handled.context is None
    assert run.events == [(STOP, {"result": {"a": [1, None, "ü"]}})]


async def test_a_result_of_none_is_none(run: Runs) -> None:
    assert (await run(flows.Echo())).value is None
    assert run.events == [(STOP, {})]


@pytest.mark.parametrize(
    ("workflow", "arguments", "result"),
    [
        (flows.Chain, {"text": "x"}, "xab"),
        (flows.FanOut, {"count": 6}, [0, 1, 4, 9, 16, 25]),
        (flows.FanOut, {"count": 0}, []),
        (flows.SendAndCollect, {}, [0, 1, 2]),
        (flows.Flaky, {"failures": 2}, 3),
        (flows.Recovering, {}, "broken: no luck"),
    ],
)
async def test_steps_pass_events_on(
    run: Runs, workflow: type[Workflow], arguments: dict[str, Any], result: Any
) -> None:
    assert (await run(workflow(), **arguments)).value == result


async def test_events_of_its_own_start_and_stop(run: Runs) -> None:
    handled = await run(flows.Typed(), topic="llamas", depth=3)
    assert handled.value == {"text": "llamas 3", "at": "2024-01-02T00:00:00Z"}
    assert run.events == [("Answer", handled.value)]


async def test_events_stream_in_order_and_the_stop_event_comes_last(run: Runs) -> None:
    await run(flows.Streaming(), count=5)
    progress = [("Progress", {"step": n, "note": None, "_data": {"extra": "x"}}) for n in range(5)]
    assert run.events == [*progress, (STOP, {"result": {"count": 5}})]


async def test_a_question_to_a_person_is_streamed(run: Runs) -> None:
    asked = asyncio.Event()
    workflow = flows.Asking(timeout=None)
    events: list[Any] = []

    def on_event(data: dict[str, Any], name: str) -> None:
        events.append((name, data))
        asked.set()

    task = asyncio.create_task(run.runner(workflow).run({}, run_id="r", context=None, on_event=on_event))
    await asked.wait()
    task.cancel()
    await asyncio.wait({task})
    assert events == [("InputRequiredEvent", {"_data": {"prefix": "name?"}})]


async def test_resources_are_shared_by_the_runs_of_a_workflow(run: Runs) -> None:
    workflow = flows.WithResource()
    assert [(await run(workflow)).value for _ in range(3)] == [1, 2, 3]


async def test_a_failed_step_is_named_beside_what_it_raised(run: Runs) -> None:
    with pytest.raises(StepFailed, match="step 'broken' failed with Trouble: no luck") as caught:
        await run(flows.Raising())
    assert caught.value.step == "broken"
    assert isinstance(caught.value.cause, flows.Trouble)
    assert caught.value.__cause__ is caught.value.cause
    assert caught.value.attempts == 1
    assert run.events == []


async def test_a_step_that_used_up_its_retries_says_how_often_it_was_tried(run: Runs) -> None:
    with pytest.raises(StepFailed) as caught:
        await run(flows.Flaky(), failures=9)
    assert (caught.value.step, str(caught.value.cause), caught.value.attempts) == ("attempt", "attempt 3", 3)


async def test_the_events_of_a_nested_run_may_be_passed_on(direct: Runs) -> None:
    class Outer(Workflow):
        @step
        async def call(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for inner in (flows.Streaming(), flows.Forever(timeout=0.02)):
                handler = inner.run(count=1)
                async for event in handler.stream_events():
                    ctx.write_event_to_stream(event)
                try:
                    await handler
                except WorkflowTimeoutError:
                    ctx.write_event_to_stream(flows.Progress(step=7))
            if ev.get("fail"):
                raise flows.Trouble("after all")
            return StopEvent(result="outer")

    assert (await direct(Outer())).value == "outer"
    inner = [("Progress", {"step": 0, "note": None, "_data": {"extra": "x"}}), (STOP, {"result": {"count": 1}})]
    assert direct.events == [*inner, ("Progress", {"step": 7, "note": None}), (STOP, {"result": "outer"})]
    with pytest.raises(StepFailed, match="after all"):
        await direct(Outer(), fail=True)


async def test_its_own_limit_ends_a_run_and_is_named(run: Runs) -> None:
    with pytest.raises(TaskTimedOut, match=r"within 0\.05 s, its own limit.*`timeout`.*still at work: wait") as caught:
        await run(flows.Forever(timeout=0.05))
    assert caught.value.details == {"limit": 0.05, "setting": "timeout", "steps": ["wait"]}
    assert caught.value.task_status == "timed_out"


async def test_a_wait_within_a_step_ends_after_its_own_limit(run: Runs) -> None:
    with pytest.raises(StepFailed, match="step 'wait' failed with TimeoutError: Timed out waiting for HumanResponse"):
        await run(flows.Patient())
    assert run.events == [("InputRequiredEvent", {})]


async def test_a_nested_limit_is_the_failure_of_its_step(run: Runs) -> None:
    class Outer(Workflow):
        @step
        async def inner(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await flows.Forever(timeout=0.02).run())

    with pytest.raises(StepFailed) as caught:
        await run(Outer())
    assert (caught.value.step, type(caught.value.cause).__name__) == ("inner", "WorkflowTimeoutError")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "the result of the run is not JSON: it is of type float, which is not a finite number"),
        ({"a": [b"x"]}, r"the result of the run is not JSON: \.a\[0\] is of type bytes, which JSON has no form for"),
        (object(), "the result of the run is not JSON: it is of type object"),
        ("\ud800", "lone surrogate"),
    ],
)
async def test_a_result_that_is_not_json_fails_the_run(run: Runs, value: Any, message: str) -> None:
    with pytest.raises(NotJSON, match=message):
        await run(flows.Echo(), value=value)
    assert run.events == []


async def test_a_stop_event_of_its_own_that_is_not_json_names_the_field(run: Runs) -> None:
    class Odd(StopEvent):
        answer: Any

    class Oddly(Workflow):
        @step
        async def only(self, ev: StartEvent) -> Odd:
            return Odd(answer={"inner": object()})

    with pytest.raises(NotJSON, match=r"event Odd is not JSON: \.answer\.inner is of type object"):
        await run(Oddly())


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (flows.Progress(step=1, note=object()), r"event Progress is not JSON: \.note is of type object"),
        (flows.Progress(step=1, note=[float("inf")]), r"event Progress is not JSON: \.note\[0\] is of type float"),
        (Event(loose=object()), r"event Event is not JSON: \._data\.loose is of type object"),
        ({"a": 1}, "only events can be written to the stream of a run, not a value of type dict"),
    ],
)
async def test_an_event_that_is_not_json_ends_the_run_at_once(run: Runs, event: Any, message: str) -> None:
    with pytest.raises(NotJSON, match=message):
        await asyncio.wait_for(run(flows.Noting(timeout=None), event=event), 5)
    assert run.events == []


async def test_arguments_that_do_not_fit_are_refused_before_anything_runs(run: Runs) -> None:
    with pytest.raises(InvalidInput, match="topic: is missing"):
        await run(flows.Typed(), depth=1)
    assert run.events == []


async def test_a_workflow_that_cannot_run_is_refused_when_it_is_prepared() -> None:
    class Hanging(Workflow):
        @step
        async def first(self, ev: StartEvent) -> StopEvent | flows.Half:
            return flows.Half(text="x")

    with pytest.raises(ConfigurationError, match="workflow Hanging cannot run"):
        WorkflowRunner(Hanging())


async def test_fifty_runs_at_once_share_a_workflow_and_nothing_else(run: Runs) -> None:
    runner = run.runner(flows.Gathering(50, timeout=None))
    streams: dict[str, list[Any]] = {f"s{n}": [] for n in range(50)}
    contexts: dict[str, str | None] = dict.fromkeys(streams)

    async def turn(session: str, number: int) -> Any:
        events = streams[session]
        handled = await runner.run(
            {"name": f"{session}/{number}"},
            run_id=f"{session}/{number}",
            context=contexts[session],
            on_event=lambda data, name: events.append((name, data.get("note"), data.get("result"))),
        )
        contexts[session] = handled.context
        return handled.value

    for number in range(3):
        results = await asyncio.gather(*(turn(session, number) for session in streams))
        assert results == [[f"{session}/{n}" for n in range(number + 1)] for session in streams]
    for session, events in streams.items():
        notes = [[("Progress", f"{session}/{n}", None)] * 2 for n in range(3)]
        stops = [(STOP, None, [f"{session}/{m}" for m in range(n + 1)]) for n in range(3)]
        assert events == [each for n in range(3) for each in (*notes[n], stops[n])]


async def test_a_workflow_with_its_own_run_is_run_by_it(run: Runs) -> None:
    workflow = flows.OwnRun()
    first = await run(workflow, question="why", loud=True)
    assert first.value == ["WHY", 1]
    assert run.events == [("Progress", {"step": 1, "note": None}), (STOP, {"result": ["WHY", 1]})]
    assert (await run(workflow, context=first.context, question="how")).value == ["how", 2]
    with pytest.raises(InvalidInput, match=r"do not fit OwnRun\.run\(question: str.*missing a required argument"):
        await run(workflow, loud=True)
    with pytest.raises(InvalidInput, match="run_id belong to the engine"):
        await run(workflow, question="x", run_id="mine")


async def test_arguments_that_its_own_run_passes_on_are_refused_as_the_engine_refuses_them(run: Runs) -> None:
    assert (await run(flows.PassedOn(), topic="x")).value["text"] == "x 1"
    with pytest.raises(InvalidInput, match="Failed creating a start event of type 'Question'"):
        await run(flows.PassedOn(), depth=2)


async def test_a_run_that_is_a_coroutine_is_awaited(run: Runs) -> None:
    assert (await run(flows.AwaitedRun(), value="x")).value == {"changed": "x"}


async def test_a_step_may_run_its_own_workflow(run: Runs) -> None:
    handled = await run(flows.Recursive(), depth=2)
    assert handled.value == 3
    assert run.events == [("Progress", {"step": 2, "note": None}), (STOP, {"result": 3})]
    assert handled.context is not None
    assert '"depth":2' in handled.context


async def test_a_workflow_can_be_run_by_itself_beside_its_runner(run: Runs) -> None:
    workflow = flows.Streaming()
    await run(workflow, count=1)
    handler = workflow.run(count=2)
    seen = [type(event).__name__ async for event in handler.stream_events()]
    assert seen == ["Progress", "Progress", STOP]
    assert await handler == {"count": 2}
    assert len(run.events) == 2
