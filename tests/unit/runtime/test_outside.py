"""Events from outside, questions, and the rest in between."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.context.serializers import JsonSerializer
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

import arriero
from arriero.runtime import runner as runner_module
from arriero.services.handlers import FunctionHandler, WorkflowHandler
from tests.unit.runtime.desk import Desk


@pytest.fixture(params=["direct", "public"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which workflows run."""
    if request.param == "public":
        monkeypatch.setattr(runner_module, "_attach", lambda workflow: None)
    return str(request.param)


class Question(InputRequiredEvent):
    text: str


class Answer(HumanResponseEvent):
    text: str
    sure: bool = True


class Hint(Event):
    text: str = ""


class Approval(HumanResponseEvent):
    yes: bool


class Asks(Workflow):
    """Asks by an event that a step returns, and takes the answer in another."""

    @step
    async def ask(self, ev: StartEvent) -> Question:
        return Question(text="how are you?")

    @step
    async def take(self, ev: Answer) -> StopEvent:
        return StopEvent(result=[ev.text, ev.sure, ev.get("more")])


class Waits(Workflow):
    """Asks from within a step, as often as it is told."""

    @step
    async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
        found = []
        for n in range(ev.get("times", 1)):
            question = Question(text=f"number {n}?")
            # Without a requirement, the engine gives all waits of a step the newest answer.
            answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question, requirements={"n": n})
            found.append(answer.response)
        return StopEvent(result=found)


class Started:
    """A run under way."""

    def __init__(self, desk: Desk, workflow: Workflow) -> None:
        self.desk = desk
        self.task = asyncio.create_task(desk.handle(WorkflowHandler(workflow)))

    async def rests(self) -> list[str]:
        """What it waits for, once it does."""
        idled = asyncio.ensure_future(self.desk.idled.get())
        await asyncio.wait({idled, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if not idled.done():
            idled.cancel()
            raise AssertionError(f"it did not rest: {self.task}")
        return idled.result()

    async def value(self) -> Any:
        return (await self.task).value


Start = Any


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[Started] = []

    def begin(workflow: Workflow, desk: Desk | None = None, **arguments: Any) -> Started:
        started.append(Started(desk or Desk(**arguments), workflow))
        return started[-1]

    yield begin
    for each in started:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in started), return_exceptions=True)


async def test_a_question_is_marked_and_the_run_rests_until_its_answer(start: Start) -> None:
    run = start(Asks())
    assert await run.rests() == ["Answer", "HumanResponseEvent"]
    assert [(event.type, event.asks) for event in run.desk.events] == [("Question", True)]
    run.desk.send("Answer", text="well", more=1)
    assert await run.value() == ["well", True, 1]
    assert run.desk.idled.empty()


@pytest.mark.parametrize("name", ["Answer", f"{__name__}.Answer"])
async def test_an_event_goes_by_its_name_with_its_module_and_without(start: Start, name: str) -> None:
    run = start(Asks())
    await run.rests()
    run.desk.send(name, text="well")
    assert await run.value() == ["well", True, None]


async def test_an_event_may_come_in_the_form_in_which_events_are_written(start: Start) -> None:
    run = start(Asks())
    run.desk.send("Answer", **Answer(text="well", more=[1]).model_dump())  # type: ignore[call-arg]  # events take any
    assert await run.value() == ["well", True, [1]]


async def test_what_a_step_waits_for_reaches_it(start: Start) -> None:
    run = start(Waits(), times=3)
    for n in range(3):
        assert "HumanResponseEvent" in await run.rests()
        assert run.desk.questions == n + 1
        run.desk.send("HumanResponseEvent", response=n, n=n)
    assert await run.value() == [0, 1, 2]


async def test_answers_that_come_before_their_questions_wait_in_order(start: Start) -> None:
    desk = Desk(times=3)
    for n in range(3):
        desk.send("HumanResponseEvent", response=n, n=n)
    run = start(Waits(), desk)
    assert await run.value() == [0, 1, 2]
    assert not desk.data("UnhandledEvent")


@pytest.mark.shows("event.unmatched")
async def test_an_event_that_nothing_takes_shows_in_the_stream_once(start: Start) -> None:
    class Deaf(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> Question:
            return Question(text="?")

        @step
        async def take(self, ev: Answer) -> StopEvent:
            return StopEvent()

    run = start(Deaf())
    await run.rests()
    run.desk.send("HumanResponseEvent", response="who asked?")
    await run.rests()
    assert run.desk.data("UnhandledEvent") == [{"event_type": "HumanResponseEvent", "seq": 1}]
    assert [(event.type, event.asks) for event in run.desk.events] == [("Question", True), ("UnhandledEvent", True)]
    run.desk.send("Answer", text="well")
    await run.value()
    assert len(run.desk.data("UnhandledEvent")) == 1
    assert run.desk.events[-1].type == "StopEvent"


@pytest.mark.shows("event.unmatched")
async def test_an_event_that_nothing_took_until_the_end_shows_before_it() -> None:
    class Quick(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(0.01)
            return StopEvent()

    desk = Desk()
    desk.send("HumanResponseEvent", response="hello?")
    await desk.handle(WorkflowHandler(Quick()))
    assert [event.type for event in desk.events] == ["UnhandledEvent", "StopEvent"]


async def test_an_answer_that_does_not_fit_is_told_and_the_question_stays_open(start: Start) -> None:
    run = start(Asks())
    await run.rests()
    run.desk.send("Answer", text=["not", "text"])
    await run.rests()
    [told] = run.desk.data("UnhandledEvent")
    assert told["event_type"] == "Answer"
    assert "text" in told["problem"]
    assert run.desk.questions == 2
    run.desk.send("Answer", text="well")
    assert await run.value() == ["well", True, None]


@pytest.mark.parametrize("data", [{"self": 1}, {"_data": 1}, {"_result": 1, "text": "x", "_data": {"self": 1}}])
async def test_data_that_would_harm_an_event_is_refused(start: Start, data: dict[str, Any]) -> None:
    run = start(Asks())
    await run.rests()
    run.desk.send_data("Answer", data)
    await run.rests()
    assert run.desk.data("UnhandledEvent")[0]["problem"]


async def test_an_event_between_steps_can_come_from_outside(start: Start) -> None:
    class Gathers(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Hint | None:
            return None

        @step
        async def take(self, ev: Hint) -> StopEvent:
            return StopEvent(result=ev.text)

    run = start(Gathers())
    assert await run.rests() == ["Hint", "HumanResponseEvent"]
    run.desk.send("Hint", text="look left")
    assert await run.value() == "look left"


async def test_what_a_workflow_takes_is_known_by_every_name() -> None:
    accepts = WorkflowHandler(Asks()).accepts
    assert accepts == {
        "Answer": True,
        f"{__name__}.Answer": True,
        "HumanResponseEvent": True,
        "workflows.events.HumanResponseEvent": True,
    }
    assert FunctionHandler(print).accepts == {}


async def test_a_class_that_a_step_waits_for_is_taken(start: Start) -> None:
    class Approved(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await ctx.wait_for_event(Approval)).yes)

    run = start(Approved())
    await run.rests()
    run.desk.send("Approval", yes=True)
    assert await run.value() is True


async def approval(ctx: Context) -> bool:
    return (await ctx.wait_for_event(Approval)).yes


async def test_a_class_that_is_waited_for_elsewhere_is_taken_once_the_serializer_allows_it(start: Start) -> None:
    class Approved(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await approval(ctx))

    assert "Approval" not in WorkflowHandler(Approved()).accepts
    run = start(Approved(serializer=JsonSerializer(allowed_types=[Approval])))
    await run.rests()
    run.desk.send("Approval", yes=True)
    assert await run.value() is True


async def test_of_two_classes_of_one_name_neither_goes_by_it_alone() -> None:
    class Other:
        class Answer(HumanResponseEvent):
            pass

    class Both(Asks):
        @step
        async def other(self, ev: Other.Answer) -> StopEvent:
            return StopEvent()

    accepts = WorkflowHandler(Both()).accepts
    assert "Answer" not in accepts
    assert accepts[f"{__name__}.Answer"]
    assert accepts[f"{Other.Answer.__module__}.{Other.Answer.__qualname__}"]


async def test_a_run_with_a_child_under_way_does_not_rest(start: Start) -> None:
    gate, called = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        called.set()
        await gate.wait()
        return "done"

    class Background(arriero.Workflow):
        @arriero.step
        async def begin(self, ctx: Context, ev: StartEvent, slow: Workflow) -> Question:
            self.child = slow.run()
            return Question(text="?")

        @arriero.step
        async def take(self, ev: Answer) -> StopEvent:
            return StopEvent(result=await self.child)

    run = start(Background(), Desk({"slow": slow}))
    await called.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert run.desk.idled.empty()
    gate.set()
    await run.rests()
    run.desk.send("Answer", text="")
    assert await run.value() == "done"


class Between(arriero.Workflow):
    """Runs two workflows that ask, by whatever runs them."""

    @arriero.step
    async def only(self, ev: StartEvent, first: Workflow, second: Workflow) -> StopEvent:
        return StopEvent(result=await asyncio.gather(first.run(), second.run()))


async def test_an_answer_reaches_the_run_in_the_same_process_that_asked(start: Start, way: str) -> None:
    outer = Between()
    outer.add_workflows(first=Asks(), second=Waits())
    run = start(outer)
    await run.desk.asked(2)
    if way == "direct":  # how many steps are at work is not to be had by the other
        assert {"Answer", "HumanResponseEvent"} == set(await run.rests())
    assert set(run.desk.seen) == {("first", "Question"), ("second", "Question")}
    run.desk.send("HumanResponseEvent", response="second", n=0)
    run.desk.send("Answer", text="first")
    assert await run.value() == [["first", True, None], ["second"]]
    assert not run.desk.data("UnhandledEvent")


async def test_what_bound_workflows_take_is_taken() -> None:
    outer = Between()
    assert "Answer" not in WorkflowHandler(outer).accepts
    outer.add_workflows(first=Asks())
    assert WorkflowHandler(outer).accepts["Answer"] is True


async def test_an_event_for_a_bound_workflow_waits_until_it_runs(start: Start) -> None:
    gate = asyncio.Event()

    class Later(arriero.Workflow):
        @arriero.step
        async def only(self, ev: StartEvent, inner: Asks) -> StopEvent:
            await gate.wait()
            return StopEvent(result=await inner.run())

    outer = Later()
    outer.add_workflows(inner=Asks())
    desk = Desk()
    desk.send("Answer", text="early")
    run = start(outer, desk)
    await asyncio.sleep(0.01)
    gate.set()
    assert (await run.value())[0] == "early"


async def test_a_run_that_was_cancelled_while_it_rests_ends(start: Start) -> None:
    run = start(Asks())
    await run.rests()
    run.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run.value()
