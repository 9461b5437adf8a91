"""Orchestrators that take their time: they hold up nobody, and what they decide is done once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from arriero.core import names
from arriero.core.mending import Mending
from arriero.core.records import TaskRecord
from arriero.orchestrators import BaseOrchestrator, get_result_key
from arriero.state_stores.base import Delete, Document
from arriero.state_stores.memory import MemoryStore
from arriero.types.errors import UnknownTask
from arriero.types.link import Grant
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import TaskDefinition, TaskResult, TaskStatus
from tests.unit.core.conftest import Hand, House, MakeHouse
from tests.unit.core.test_history import three_steps

WAITS = [{"orchestrator": "Thinker"}]


class Thinker(BaseOrchestrator):
    """Orders ``first`` items, and one more for the results that it has kept. It thinks as long as it is not told."""

    def __init__(self, first: int = 1) -> None:
        self.first = first
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.told = asyncio.Event()
        self.thinks_at = "results"
        self.faults: list[BaseException] = []

    async def get_next_messages(
        self, task_def: TaskDefinition, state: dict[str, Any]
    ) -> tuple[list[QueueMessage], dict[str, Any]]:
        own = state.get(task_def.task_id)
        if own is None:
            await self._think("begin")
            orders = [_order({"number": number}) for number in range(self.first)]
            return orders, {**state, task_def.task_id: {"results": []}, "begun": state.get("begun", 0) + 1}
        if len(own["results"]) == self.first:
            return [_order({"results": own["results"]})], state
        return [], {**state, get_result_key(task_def.task_id): {"all": own["results"], "begun": state["begun"]}}

    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> dict[str, Any]:
        await self._think("results")
        results = [*state[result.task_id]["results"], result.value]
        return {**state, result.task_id: {"results": results}}

    async def _think(self, what: str) -> None:
        self.asked.put_nowait(what)
        if what == self.thinks_at:
            await self.told.wait()
        if self.faults:
            raise self.faults.pop()


def _order(data: dict[str, Any]) -> QueueMessage:
    return QueueMessage(type="work", action=ActionTypes.NEW_TASK, data={"input": json.dumps(data)})


@pytest.fixture
def thinker() -> Thinker:
    return Thinker()


@pytest.fixture
async def house(make_house: MakeHouse, thinker: Thinker) -> House:
    return await make_house(thinker)


async def begun(house: House, **fields: Any) -> tuple[Hand, TaskRecord]:
    """A task whose first item is done, and on which the orchestrator thinks."""
    hand = await house.worker()
    task = await house.submit(await house.core.sessions.create(), **fields)
    [grant] = await hand.claim()
    await hand.complete(grant, "one")
    return hand, task


async def shown(house: House, task: TaskRecord) -> TaskRecord:
    return await house.core.show(task.session_id, task.id)


async def granted(hand: Hand) -> Grant:
    """The next item, as soon as it has been ordered."""
    while not (grants := await hand.claim()):  # noqa: ASYNC110  # a hand hears no rings
        await asyncio.sleep(0)
    return grants[0]


async def finish(house: House, hand: Hand, task: TaskRecord) -> Any:
    """Do the item that is ordered last."""
    await hand.complete(await granted(hand), "last")
    return msgspec.json.decode((await house.ended(task)).value)


@pytest.mark.shows("orchestrator.slow")
async def test_a_report_is_taken_while_the_orchestrator_thinks_and_so_is_all_else(
    house: House, thinker: Thinker
) -> None:
    hand, task = await begun(house)
    seen = await shown(house, task)
    assert (seen.status, seen.waits_for) == (TaskStatus.RUNNING, WAITS)
    await house.core.sessions.update_state(task.session_id, {"meanwhile": True})
    other = await house.submit(task.session_id)
    assert [grant.task_id for grant in await hand.claim()] == [other.id]
    await house.core.tasks.cancel(task.session_id, other.id, "not wanted")
    thinker.told.set()
    assert await finish(house, hand, task) == {"all": ["one", "last"], "begun": 2}
    assert await house.core.sessions.state(task.session_id) == {"begun": 2, "meanwhile": True}
    assert not await house.store.scan(names.DECISIONS)


@pytest.mark.shows("orchestrator.slow")
async def test_a_task_is_accepted_while_the_orchestrator_thinks_of_its_beginning(
    house: House, thinker: Thinker
) -> None:
    thinker.thinks_at = "begin"
    hand = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    seen = await shown(house, task)
    assert (seen.status, seen.waits_for) == (TaskStatus.QUEUED, WAITS)
    assert await hand.claim() == []
    thinker.told.set()
    await hand.complete(await granted(hand), "one")
    assert (await finish(house, hand, task))["all"] == ["one", "last"]


@pytest.mark.shows("orchestrator.slow")
@pytest.mark.parametrize("thinks_at", ["begin", "results"])
async def test_a_task_ends_in_time_though_its_orchestrator_never_decides(
    house: House, thinker: Thinker, thinks_at: str
) -> None:
    thinker.thinks_at = thinks_at
    hand = await house.worker()
    session = await house.core.sessions.create()
    limited, cancelled = [await house.submit(session, **each) for each in ({"deadline": 0.2}, {})]
    for _ in range(2 if thinks_at == "results" else 0):
        [grant] = await hand.claim()
        await hand.complete(grant)
    await house.core.tasks.cancel(session, cancelled.id, "tired of it")
    assert (await house.ended(limited)).status is TaskStatus.TIMED_OUT
    assert (await house.ended(cancelled)).status is TaskStatus.CANCELLED
    assert not await house.store.scan(names.DECISIONS)


async def test_a_session_is_deleted_though_the_orchestrator_never_decides(house: House) -> None:
    _, task = await begun(house)
    await house.core.sessions.delete(task.session_id)
    with pytest.raises(UnknownTask):
        await house.core.tasks.get(None, task.id)
    assert not await house.store.scan(names.DECISIONS)


@pytest.mark.shows("orchestrator.slow")
@pytest.mark.parametrize("thinks_at", ["begin", "results"])
async def test_after_a_restart_the_orchestrator_is_asked_again(house: House, thinker: Thinker, thinks_at: str) -> None:
    thinker.thinks_at = thinks_at
    hand = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    if thinks_at == "results":
        [grant] = await hand.claim()
        await hand.complete(grant, "one")
    hand.core = await house.restart()
    await hand.connect()
    thinker.told.set()
    if thinks_at == "begin":
        await hand.complete(await granted(hand), "one")
    assert await finish(house, hand, task) == {"all": ["one", "last"], "begun": 1}


async def test_a_decision_on_a_state_that_has_changed_is_made_again(house: House, thinker: Thinker) -> None:
    thinker.thinks_at = "begin"
    hand = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    await house.core.sessions.update_state(task.session_id, {"begun": 41})
    thinker.told.set()
    await hand.complete(await granted(hand), "one")
    assert (await finish(house, hand, task))["begun"] == 42
    asked = [thinker.asked.get_nowait() for _ in range(thinker.asked.qsize())]
    assert asked == ["begin", "begin", "results", "results"]


async def test_results_that_come_meanwhile_are_decided_on_one_after_another(make_house: MakeHouse) -> None:
    thinker = Thinker(first=3)
    house = await make_house(thinker)
    hand = await house.worker(parallel=True)
    task = await house.submit(await house.core.sessions.create())
    for value, grant in enumerate(await hand.claim(3)):
        await hand.complete(grant, value)
    assert thinker.asked.qsize() == 2  # the beginning, and the first result
    thinker.told.set()
    assert (await finish(house, hand, task))["all"] == [0, 1, 2, "last"]


@pytest.mark.parametrize("fault", [RuntimeError("no idea"), SystemExit(1), asyncio.CancelledError()])
async def test_an_orchestrator_that_fails_after_a_while_fails_its_task(
    house: House, thinker: Thinker, fault: BaseException
) -> None:
    _, task = await begun(house)
    thinker.faults.append(fault)
    thinker.told.set()
    ended = await house.ended(task)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (TaskStatus.FAILED, "orchestrator_error")
    assert not await house.store.scan(names.DECISIONS)


class Nonsense(BaseOrchestrator):
    def __init__(self, answer: Any, result: Any) -> None:
        self.answer = answer
        self.result = result

    async def get_next_messages(self, task_def: TaskDefinition, state: dict[str, Any]) -> Any:
        return ([_order({})], state) if not state.get("done") else self.answer

    async def add_result_to_state(self, result: TaskResult, state: dict[str, Any]) -> Any:
        return self.result


@pytest.mark.shows("orchestrator.error")
@pytest.mark.parametrize(
    ("answer", "result", "said"),
    [
        (None, {"done": True}, "NoneType"),
        (([], None), {"done": True}, "tuple"),
        ((["text"], {}), {"done": True}, "str"),
        ((5, {}), {"done": True}, "int"),
        (([], {"x": object()}), {"done": True}, "not JSON"),
        (([], {}), None, "add_result_to_state gives a dict, not NoneType"),
    ],
)
async def test_an_answer_that_is_none_fails_the_task_by_name(
    make_house: MakeHouse, answer: Any, result: Any, said: str
) -> None:
    house = await make_house(Nonsense(answer, result))
    hand = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    [grant] = await hand.claim()
    await hand.complete(grant)
    ended = await house.ended(task)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (TaskStatus.FAILED, "orchestrator_error")
    assert said in ended.error.message


@pytest.mark.parametrize("thinks_at", ["begin", "results"])
async def test_what_was_to_be_decided_is_put_back(house: House, thinker: Thinker, thinks_at: str) -> None:
    thinker.thinks_at = thinks_at
    hand = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    if thinks_at == "results":
        [grant] = await hand.claim()
        await hand.complete(grant, "one")
    await house.core.aclose()
    await house.store.commit([Delete(names.DECISIONS, task.id)])
    await house.core.start()
    await Mending(house.core.kernel).all()
    await house.core.deciding.recover()
    thinker.told.set()
    if thinks_at == "results":
        assert (await finish(house, hand, task))["all"] == ["one", "last"]
    else:
        ended = await house.ended(task)
        assert ended.error is not None
        assert (ended.status, ended.error.code) == (TaskStatus.FAILED, "store_damaged")


async def test_a_fork_whose_beginning_is_thought_of_keeps_its_journal_over_a_restart(
    house: House, thinker: Thinker
) -> None:
    thinker.told.set()
    hand = await house.worker(accepts={}, shape="s")
    old = await house.submit(await house.core.sessions.create())
    first = await granted(hand)
    await three_steps(hand, first)
    await hand.complete(first, "one")
    await finish(house, hand, old)
    thinker.thinks_at = "begin"
    thinker.told.clear()
    new = await house.core.copies.fork(await house.core.tasks.get(None, old.id), 2)
    assert (await shown(house, new)).waits_for == WAITS
    hand.core = await house.restart()
    await hand.connect()
    thinker.told.set()
    again = await granted(hand)
    assert (again.item_id, len(again.journal)) == (new.id, 2)


class Lingering(MemoryStore):
    """Gives a task of which nothing is undecided to who decides only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.may = asyncio.Event()

    async def get(self, collection: str, key: str) -> Document | None:
        found = await super().get(collection, key)
        asker = asyncio.current_task()
        if collection == names.TASKS and asker is not None and asker.get_name().startswith("decisions for"):
            assert found is not None
            if b'"undecided"' not in found.value:
                self.asked.set()
                await self.may.wait()
        return found


async def test_a_result_that_comes_right_behind_the_last_decision_is_decided_on(make_house: MakeHouse) -> None:
    thinker, store = Thinker(first=2), Lingering()
    house = await make_house(thinker, store=store)
    hand = await house.worker(parallel=True)
    task = await house.submit(await house.core.sessions.create())
    first, second = await hand.claim(2)
    await hand.complete(first, "one")
    thinker.told.set()
    await store.asked.wait()
    thinker.told.clear()
    await hand.complete(second, "two")
    store.may.set()
    thinker.told.set()
    async with asyncio.timeout(10):
        assert (await finish(house, hand, task))["all"] == ["one", "two", "last"]
