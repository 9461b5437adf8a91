"""Events that are sent to tasks from outside."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from arriero.core import names
from arriero.core.inbox import Sent
from arriero.core.records import ServiceRecord, TaskRecord
from arriero.types.errors import AlreadyAnswered, AlreadyEnded, InvalidInput, TaskConflict, UnknownEvent
from arriero.types.link import Arrival, Event, Grant
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Hand, House, MakeHouse

ACCEPTS = {"Answer": True, "Nudge": False}


def sent(kind: str = "Answer", value: object = "yes", service: str = "ask", key: str | None = None) -> Sent:
    data = json.dumps({"response": value})
    return Sent(service, kind, msgspec.Raw(data.encode()), f"{kind} {data}", key)


async def send(house: House, task: TaskRecord, event: Sent | None = None) -> None:
    await house.core.inbox.send(task.session_id, task.id, event or sent())


async def asked(worker: Hand, grant: Grant, number: int = 0) -> None:
    ask = Event(number=number, data=msgspec.Raw(b'{"prefix":"sure?"}'), type="Ask", asks=True)
    await worker.core.claims.emit(worker.link, grant.item_id, grant.token, [ask])


def values(arrivals: list[Arrival]) -> list[tuple[int, object]]:
    return [(arrival.seq, msgspec.json.decode(arrival.data)["response"]) for arrival in arrivals]


async def waiting(house: House) -> tuple[Hand, TaskRecord, Grant]:
    worker = await house.worker("ask", accepts=ACCEPTS)
    task = await house.submit(await house.core.sessions.create(), "ask")
    [grant] = await worker.claim()
    await asked(worker, grant)
    await worker.wait(grant, "Answer")
    return worker, task, grant


@pytest.mark.shows("end.waiting")
async def test_a_task_that_waits_says_for_what_and_goes_on_when_it_comes(house: House) -> None:
    worker, task, grant = await waiting(house)
    shown = await house.core.tasks.show(task.session_id, task.id)
    assert (shown.status, shown.waits_for) == (TaskStatus.WAITING, [{"events": ["Answer"]}])
    await send(house, task)
    assert values((await worker.delivered.get()).arrivals) == [(1, "yes")]
    assert (await house.core.tasks.show(task.session_id, task.id)).status is TaskStatus.RUNNING
    await worker.complete(grant)
    assert (await house.ended(task)).status is TaskStatus.COMPLETED


@pytest.mark.shows("event.once")
async def test_of_two_answers_at_once_one_is_taken(house: House) -> None:
    _, task, _ = await waiting(house)
    outcomes = await asyncio.gather(
        send(house, task, sent(value="a")), send(house, task, sent(value="b")), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyAnswered", "NoneType"]


async def test_an_answer_that_is_sent_again_under_its_key_is_the_same_answer(house: House) -> None:
    worker, task, grant = await waiting(house)
    await send(house, task, sent(key="k"))
    await send(house, task, sent(key="k"))
    with pytest.raises(TaskConflict):
        await send(house, task, sent(value="no", key="k"))
    assert worker.delivered.qsize() == 1
    await worker.complete(grant)
    await send(house, task, sent(key="k"))
    with pytest.raises(AlreadyEnded):
        await send(house, task, sent(key="other"))


async def test_an_event_that_the_service_does_not_take_is_refused_with_those_it_takes(house: House) -> None:
    _, task, _ = await waiting(house)
    with pytest.raises(UnknownEvent, match="Answer, Nudge"):
        await send(house, task, sent("os.system"))
    await house.worker("other", accepts=ACCEPTS)
    with pytest.raises(InvalidInput, match="for it: ask"):
        await send(house, task, sent(service="other"))


async def test_an_event_is_known_by_its_class_wherever_that_lies(house: House) -> None:
    worker, task, _ = await waiting(house)
    await send(house, task, sent("elsewhere.module.Answer"))
    assert [arrival.type for arrival in (await worker.delivered.get()).arrivals] == ["Answer"]


@pytest.mark.shows("claim.brings")
async def test_what_is_sent_early_comes_with_the_claim_and_answers_what_is_asked_later(house: House) -> None:
    worker = await house.worker("ask", accepts=ACCEPTS)
    task = await house.submit(await house.core.sessions.create(), "ask")
    await send(house, task)
    [grant] = await worker.claim()
    assert values(grant.inbox) == [(1, "yes")]
    await asked(worker, grant)
    with pytest.raises(AlreadyAnswered):
        await send(house, task, sent(value="again"))
    await send(house, task, sent("Nudge"))


@pytest.mark.shows("event.stored")
async def test_a_run_that_begins_again_gets_every_event_again(make_house: MakeHouse) -> None:
    house = await make_house(link_grace=0.0)
    worker, task, _ = await waiting(house)
    await send(house, task)
    worker.vanish()
    await house.core.links.give_back(worker.worker_id, lost=True)
    other = await house.worker("ask", accepts=ACCEPTS)
    [grant] = await other.claim()
    assert values(grant.inbox) == [(1, "yes")]
    await asked(other, grant)
    with pytest.raises(AlreadyAnswered):
        await send(house, task, sent(value="again"))


async def test_a_worker_that_connects_again_gets_what_was_sent_meanwhile(house: House) -> None:
    worker, task, _ = await waiting(house)
    worker.vanish()
    await send(house, task)
    await worker.connect()
    assert values((await worker.delivered.get()).arrivals) == [(1, "yes")]


@pytest.mark.parametrize("leave", [False, True])
async def test_who_waits_without_an_event_that_was_given_too_soon_is_given_it_again(house: House, leave: bool) -> None:
    worker, task, grant = await waiting(house)
    for word in ("one", "two"):
        await send(house, task, sent("Nudge", word))
        await worker.delivered.get()  # the worker does not know the item yet, and forgets it
    assert not await worker.wait(grant, "Answer", leave=leave, seen=1)
    assert values((await worker.delivered.get()).arrivals) == [(2, "two")]


async def test_a_wait_that_crosses_an_event_is_none(house: House) -> None:
    worker = await house.worker("ask", accepts=ACCEPTS)
    task = await house.submit(await house.core.sessions.create(), "ask")
    [grant] = await worker.claim()
    await send(house, task, sent("Nudge"))
    await worker.wait(grant, "Answer", seen=0)
    assert (await house.core.tasks.show(task.session_id, task.id)).status is TaskStatus.RUNNING
    await worker.wait(grant, "Answer", seen=1)
    assert (await house.core.tasks.show(task.session_id, task.id)).status is TaskStatus.WAITING


async def test_an_event_reaches_the_child_that_asks(house: House) -> None:
    outer, inner = await house.worker("outer"), await house.worker("ask", accepts=ACCEPTS)
    task = await house.submit(await house.core.sessions.create(), "outer")
    [parent] = await outer.claim()
    await outer.call(parent, "ask", key="1")
    await outer.call(parent, "ask", key="2")
    _, second = await inner.claim(2)
    await asked(inner, second)
    await send(house, task)
    assert (await inner.delivered.get()).item_id == second.item_id


async def test_a_session_that_is_deleted_leaves_no_events(house: House) -> None:
    _, task, grant = await waiting(house)
    await send(house, task, sent(key="k"))
    await house.core.sessions.delete(task.session_id)
    for collection in (names.inbox(grant.item_id), names.inbox_keys(grant.item_id)):
        assert await house.store.scan(collection) == []


async def test_a_service_that_is_registered_again_takes_events_all_the_while(house: House) -> None:
    worker, task, _ = await waiting(house)
    await house.core.services.register(ServiceRecord(name="ask", description="another worker is starting"))
    await send(house, task)
    assert values((await worker.delivered.get()).arrivals) == [(1, "yes")]


async def test_a_session_may_go_on_in_parallel_while_a_worker_registers(house: House) -> None:
    await house.worker("side", parallel=True)
    await house.core.services.register(ServiceRecord(name="side", description="another worker is starting"))
    session = await house.core.sessions.create()
    for _ in range(2):
        await house.submit(session, "side")
    assert house.core.kernel.ready.count("side") == 2
