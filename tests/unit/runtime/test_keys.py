"""Keys for effects outside: the same for the same work, and for no other."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections import Counter, defaultdict
from typing import Annotated, Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

import arriero
from arriero import idempotency_key, idempotency_key_sync
from arriero.runtime.failures import StepFailed
from arriero.runtime.nested import Nested
from arriero.services.handlers import WorkflowHandler, WorkflowOptions
from arriero.types.errors import ConfigurationError
from tests.unit.runtime.desk import Desk, Died

#: The keys that were used, by what for.
used: defaultdict[str, list[str]] = defaultdict(list)
tries: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_used() -> None:
    used.clear()
    tries.clear()


class Paid(Event):
    order: int


class Order(Event):
    number: int


class Pays(Workflow):
    """Its second step pays; its worker is lost when it has."""

    @step
    async def begin(self, ev: StartEvent) -> Order:
        return Order(number=1)

    @step
    async def pay(self, ev: Order) -> Paid:
        used["pay"].append(await idempotency_key("pay"))
        return Paid(order=ev.number)

    @step
    async def end(self, ev: Paid) -> StopEvent:
        return StopEvent()


async def dies(desk: Desk, workflow: Workflow, at: int, **options: Any) -> None:
    desk.dies_at = at
    with pytest.raises((Died, StepFailed)):  # in a step, the one becomes the other
        await desk.handle(WorkflowHandler(workflow, WorkflowOptions(**options)))


@pytest.mark.shows("key.again")
async def test_a_step_that_runs_again_on_another_worker_has_the_key_that_it_had() -> None:
    desk = Desk()
    await dies(desk, Pays(), at=2)
    await desk.again().handle(WorkflowHandler(Pays()))
    first, second = used["pay"]
    assert first == second
    assert 0 < len(first) <= 64


@pytest.mark.shows("key.kept")
async def test_no_key_is_given_before_what_led_to_it_is_kept_durably() -> None:
    desk = Desk()
    await dies(desk, Pays(), at=1)
    assert not used["pay"]
    after = desk.again()
    await after.handle(WorkflowHandler(Pays()))
    assert len(used["pay"]) == 1
    assert after.durable == [True, True]


async def test_a_key_waits_for_the_disk_also_behind_an_entry_that_did_not() -> None:
    class Calls(Workflow):
        @step
        async def call(self, ev: StartEvent, inner: Annotated[Workflow, Nested()]) -> StopEvent:
            await inner.run()
            await idempotency_key()
            await idempotency_key()
            return StopEvent()

    async def inner() -> None:
        """Does nothing."""

    desk = Desk({"inner": inner})
    await desk.handle(WorkflowHandler(Calls()))
    assert desk.durable == [False, True]


@pytest.mark.shows("key.again")
@pytest.mark.parametrize("way", ["async", "sync"])
async def test_a_step_that_is_tried_again_has_the_key_that_it_had(way: str) -> None:
    retries = retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(3))

    def tried(key: str, other: str) -> StopEvent:
        used["first"].append(key)
        used["second"].append(other)
        if len(used["first"]) < 3:
            raise ValueError("not yet")
        return StopEvent()

    class Waits(Workflow):
        @step(retry_policy=retries)
        async def only(self, ev: StartEvent) -> StopEvent:
            return tried(await idempotency_key(), await idempotency_key())

    class Blocks(Workflow):
        @step(retry_policy=retries)
        def only(self, ev: StartEvent) -> StopEvent:
            return tried(idempotency_key_sync(), idempotency_key_sync())

    desk = Desk()
    await desk.handle(WorkflowHandler(Waits() if way == "async" else Blocks()))
    assert [len(used[word]) for word in ("first", "second")] == [3, 3]
    assert [len(set(used[word])) for word in ("first", "second")] == [1, 1]
    assert used["first"] != used["second"]
    assert desk.entries


async def test_a_step_that_is_run_again_for_an_answer_has_the_key_that_it_had() -> None:
    class Asks(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            used["mail"].append(await idempotency_key("mail"))
            answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent())
            return StopEvent(result=answer.response)

    desk = Desk()
    task = asyncio.create_task(desk.handle(WorkflowHandler(Asks())))
    await desk.asked(1)
    desk.send("HumanResponseEvent", response="yes")
    assert (await task).value == "yes"
    assert len(used["mail"]) == 2
    assert len(set(used["mail"])) == 1


class Fan(Workflow):
    """Three orders are checked at once, and paid in the order in which that ends."""

    @step
    async def begin(self, ev: StartEvent) -> list[Order]:
        return [Order(number=number) for number in ev.orders]

    @step(num_workers=3)
    async def pay(self, ev: Order) -> Paid:
        used[str(ev.number)].append(await idempotency_key("pay"))
        return Paid(order=ev.number)

    @step
    async def end(self, ev: list[Paid]) -> StopEvent:
        return StopEvent()


@pytest.mark.shows("key.other")
async def test_works_of_one_step_that_are_done_at_once_have_keys_of_their_own() -> None:
    await Desk(orders=[1, 2, 3]).handle(WorkflowHandler(Fan()))
    assert len({key for keys in used.values() for key in keys}) == 3


@pytest.mark.parametrize("durability", ["task", "none"])
async def test_without_a_journal_a_key_goes_with_its_event_and_never_to_another(durability: str) -> None:
    handler = WorkflowHandler(Fan(), WorkflowOptions(durability=durability))
    desk = Desk(orders=[1, 2])
    await desk.handle(handler)
    await desk.again().handle(handler)
    assert [len(set(used[order])) for order in "12"] == [1, 1]
    swapped = desk.again()
    swapped.grant.input = '{"orders": [2, 1]}'  # as if the two had changed places
    await swapped.handle(handler)
    assert not {*used["1"]} & {*used["2"]}


@pytest.mark.shows("key.other")
async def test_another_task_has_other_keys() -> None:
    for _ in range(2):
        await Desk().handle(WorkflowHandler(Pays()))
    assert len(set(used["pay"])) == 2


async def test_names_and_turns_tell_keys_apart() -> None:
    class Many(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=[await idempotency_key(name) for name in ("a", "b", "a", "", "")])

    keys = (await Desk().handle(WorkflowHandler(Many()))).value
    assert len(set(keys)) == 5


class Inner(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def only(self, ev: StartEvent) -> StopEvent:
        used[ev.name].append(await idempotency_key())
        if len(used[ev.name]) % 2:
            raise ValueError("not yet")
        return StopEvent()


async def test_a_bound_workflow_has_keys_of_its_own_which_it_has_again() -> None:
    class Outer(arriero.Workflow):
        @arriero.step
        async def only(self, ev: StartEvent, inner: Inner) -> Paid:
            await asyncio.gather(inner.run(name="a"), inner.run(name="b"))
            used["outer"].append(await idempotency_key())
            return Paid(order=1)

        @arriero.step
        async def end(self, ev: Paid) -> StopEvent:
            return StopEvent()

    outer = Outer()
    outer.add_workflows(inner=Inner())
    desk = Desk()
    await dies(desk, outer, at=1)
    await desk.again().handle(WorkflowHandler(outer))
    assert {name: len(keys) for name, keys in used.items()} == {"a": 4, "b": 4, "outer": 1}
    assert len({key for keys in used.values() for key in keys}) == 3


async def test_a_workflow_that_a_step_runs_by_itself_has_keys_of_its_own() -> None:
    class Outer(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            await asyncio.gather(Pays().run(), Pays().run())
            used["outer"].append(await idempotency_key("pay"))
            return StopEvent()

    await Desk().handle(WorkflowHandler(Outer()))
    assert len({*used["pay"], *used["outer"]}) == 3


async def test_in_a_notebook_a_key_lasts_as_long_as_the_run() -> None:
    for name in ("a", "b"):
        await Inner().run(name=name)
    assert [len(keys) for keys in used.values()] == [2, 2]
    assert [len(set(keys)) for keys in used.values()] == [1, 1]
    assert used["a"] != used["b"]


async def test_a_run_of_ones_own_has_keys() -> None:
    class Own(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await idempotency_key())

        async def run(self, **arguments: Any) -> Any:  # type: ignore[override]  # as users do
            return [await idempotency_key(), await idempotency_key()]

    handler = WorkflowHandler(Own())
    desk = Desk()
    keys = (await desk.handle(handler)).value
    assert len(set(keys)) == 2
    assert (await desk.again().handle(handler)).value == keys


async def test_a_thread_of_a_step_may_have_a_loop_of_its_own() -> None:
    class Blocks(Workflow):
        @step
        def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=asyncio.run(idempotency_key("a")))

    desk = Desk()
    key = (await desk.handle(WorkflowHandler(Blocks()))).value
    assert desk.entries
    assert (await desk.again().handle(WorkflowHandler(Blocks()))).value == key


async def test_a_key_belongs_to_work_that_goes_on() -> None:
    with pytest.raises(ConfigurationError, match="no step, function or service"):
        await idempotency_key()
    with pytest.raises(ConfigurationError, match="await idempotency_key"):
        idempotency_key_sync()
    with pytest.raises(ConfigurationError, match="no step, function or service"):
        await asyncio.to_thread(idempotency_key_sync)


async def test_no_key_is_given_when_the_work_is_over() -> None:
    left: list[contextvars.Context] = []

    class Leaves(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            left.append(contextvars.copy_context())
            return StopEvent()

    desk = Desk()
    await desk.handle(WorkflowHandler(Leaves()))
    del desk
    gc.collect()
    with pytest.raises(ConfigurationError, match="after it"):
        await asyncio.get_running_loop().create_task(idempotency_key(), context=left[0])
