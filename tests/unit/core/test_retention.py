"""Finished tasks go after their time; what a session leaves when it is deleted; lists that stay bounded."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from arriero.core.inbox import Sent
from arriero.orchestrators import SimpleOrchestrator
from arriero.state_stores import MemoryStore, SqliteStore
from arriero.state_stores.base import Put
from arriero.types.errors import Fenced, TaskConflict, UnknownTask
from arriero.types.link import Outcome
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Clock, Hand, House, MakeHouse
from tests.unit.core.gates import GatedStore, touches

KEEP = 60.0
ROWS = """SELECT 'documents ' || collection, count(*) FROM documents GROUP BY 1
    UNION SELECT 'log ' || log, count(*) FROM entries GROUP BY 1"""


class Kept:
    """A store in a file, whose rows are counted behind its back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SqliteStore(path)

    def rows(self) -> Counter[str]:
        """How many rows there are of each collection and log."""
        with closing(sqlite3.connect(self.path)) as file:
            return Counter(dict(file.execute(ROWS).fetchall()))

    def pages(self) -> int:
        """How many pages the file has."""
        with closing(sqlite3.connect(self.path)) as file:
            return int(file.execute("PRAGMA page_count").fetchone()[0])


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "state.db")


async def serve(house: House, worker: Hand, session: str, text: str = "{}") -> str:
    task = await house.submit(session, text=text)
    (grant,) = await worker.claim()
    await worker.emit(grant, 1, 2)
    await worker.complete(grant, 3, context="kept")
    return task.id


@pytest.mark.shows("default.kept")
async def test_a_finished_task_goes_with_all_that_it_had_after_its_time(make_house: MakeHouse, kept: Kept) -> None:
    clock = Clock()
    house = await make_house(clock=clock, store=kept.store, keep_finished_for=KEEP)
    worker = await house.worker()
    session = await house.core.sessions.create()
    bare = kept.rows()
    old = await serve(house, worker, session)
    clock.now += KEEP / 2
    young = await serve(house, worker, session)
    await house.core.retention.sweep()
    assert (await house.core.tasks.get(session, old)).value == msgspec.Raw(b"3")
    clock.now += KEEP / 2
    await house.core.retention.sweep()
    with pytest.raises(UnknownTask):
        await house.core.tasks.get(session, old)
    tasks, following = await house.core.listing.tasks(session, "", 100)
    assert ([task.id for task in tasks], following) == ([young], None)
    assert (await house.core.listing.session(session)).task_ids == [young]
    clock.now += KEEP
    await house.core.retention.sweep()
    assert kept.rows() - bare == Counter({"documents contexts": 1})
    assert (await house.core.listing.newest(session)) is None
    await house.submit(session)
    (grant,) = await worker.claim()
    assert grant.context == "kept"


async def test_an_open_task_is_kept_however_old(make_house: MakeHouse) -> None:
    clock = Clock()
    house = await make_house(clock=clock, keep_finished_for=KEEP)
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    clock.now += 10 * KEEP
    await house.core.retention.sweep()
    (grant,) = await worker.claim()
    await worker.complete(grant, 1)
    await house.core.retention.sweep()
    assert (await house.ended(task)).value == msgspec.Raw(b"1")


async def test_many_that_are_due_go_a_few_at_once(make_house: MakeHouse) -> None:
    clock, store = Clock(), MemoryStore()
    house = await make_house(clock=clock, store=store, keep_finished_for=KEEP)
    worker = await house.worker(parallel=True)
    session = await house.core.sessions.create()
    for _ in range(120):
        await serve(house, worker, session)
    clock.now += KEEP
    before = store.stats.commits
    await house.core.retention.sweep()
    assert house.core.retention.removed == 120
    assert store.stats.commits - before == 3


async def test_it_is_removed_by_itself_when_its_time_has_come() -> None:
    async with GatedStore() as store:
        house = House(store, ControlPlaneConfig(keep_finished_for=0.05), SimpleOrchestrator(0, None))
        async with house.core:
            worker = await house.worker()
            session = await house.core.sessions.create()
            removal = store.hold(lambda ops: touches("finished")(ops) and touches("tasks/")(ops) and len(ops) > 4)
            await asyncio.gather(serve(house, worker, session), _passed(removal.arrived, removal.open))
            await house.core.retention.sweep()
            assert (await house.core.listing.tasks(session, "", 10))[0] == []


async def _passed(arrived: asyncio.Event, way: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await arrived.wait()
    way.set()


async def test_after_a_restart_what_fell_due_meanwhile_goes_at_once(make_house: MakeHouse) -> None:
    clock = Clock()
    house = await make_house(clock=clock, keep_finished_for=KEEP)
    worker = await house.worker()
    session = await house.core.sessions.create()
    task_id = await serve(house, worker, session)
    clock.now += KEEP
    await house.restart()
    await house.core.retention.sweep()
    with pytest.raises(UnknownTask):
        await house.core.tasks.get(session, task_id)


async def test_nothing_is_due_while_nothing_has_ended_and_one_wake_up_is_set_when_something_has(
    make_house: MakeHouse,
) -> None:
    house = await make_house(keep_finished_for=KEEP)
    await house.core.retention.sweep()
    agenda = house.core.kernel.agenda
    agenda.drop("retention", "")
    await house.core.retention.sweep()
    assert not agenda.has("retention", "")
    worker = await house.worker()
    await serve(house, worker, await house.core.sessions.create())
    assert agenda.has("retention", "")


async def test_without_an_end_to_keeping_nothing_is_removed(make_house: MakeHouse) -> None:
    house = await make_house(keep_finished_for=None)
    worker = await house.worker()
    session = await house.core.sessions.create()
    await serve(house, worker, session)
    assert not house.core.kernel.agenda.has("retention", "")
    assert len(await house.store.scan("finished")) == 1  # should the setting change one day


async def test_a_reader_of_a_stream_that_is_removed_comes_to_an_end(make_house: MakeHouse) -> None:
    clock = Clock()
    house = await make_house(clock=clock, keep_finished_for=KEEP)
    worker = await house.worker()
    task = await house.submit(await house.core.sessions.create())
    (grant,) = await worker.claim()
    await worker.emit(grant, *range(500))
    await worker.complete(grant)
    pages = house.core.streams.follow(task.id)
    first = await anext(pages)
    clock.now += KEEP
    await house.core.retention.sweep()
    assert [page async for page in pages] == []
    assert len(first) == 200


async def test_a_damaged_task_does_not_keep_the_others(make_house: MakeHouse) -> None:
    clock = Clock()
    house = await make_house(clock=clock, keep_finished_for=KEEP)
    worker = await house.worker()
    session = await house.core.sessions.create()
    bad, good = [await serve(house, worker, session) for _ in range(2)]
    await house.store.commit([Put("tasks", bad, b"{")])
    clock.now += KEEP
    await house.core.retention.sweep()
    with pytest.raises(UnknownTask):
        await house.core.tasks.get(session, good)


async def test_a_deleted_session_leaves_nothing(make_house: MakeHouse, kept: Kept) -> None:
    clock = Clock()
    house = await make_house(clock=clock, store=kept.store, keep_finished_for=KEEP)
    worker, parallel = await house.worker(), await house.worker("side", parallel=True)
    other = await house.core.sessions.create("other-session")
    before = kept.rows()
    session = await house.core.sessions.create("other")
    await serve(house, worker, session)
    clock.now += KEEP
    await house.core.retention.sweep()  # the context stays, and no task names it any more
    await serve(house, worker, session)
    await house.core.sessions.update_state(session, {"x": 1})
    await house.submit(session, "side", deadline=100.0)
    await house.submit(session, "side")
    (claimed,) = await parallel.claim()
    await parallel.fail(claimed, retryable=True)
    for _ in range(3):
        await house.submit(session, deadline=100.0)
    (grant,) = await worker.claim()
    await worker.emit(grant, 1)
    await house.core.sessions.delete(session)
    assert kept.rows() == before
    assert house.core.kernel.backlog.count("work") == house.core.kernel.backlog.count("side") == 0
    assert (await house.core.listing.session(other)).task_ids == []


async def test_what_is_below_a_task_goes_with_it_whether_its_session_or_its_time_ends(
    make_house: MakeHouse, kept: Kept
) -> None:
    clock = Clock()
    house = await make_house(clock=clock, store=kept.store, keep_finished_for=KEEP, large_value=1000)
    outer, inner = await house.worker("outer", accepts={"Answer": True}), await house.worker("inner")
    await outer.claim(0)
    keeping, deleted = [await house.core.sessions.create(name) for name in ("keeping", "deleted")]
    before = kept.rows()
    for session in (keeping, deleted):
        await _with_all_it_can_have(house, outer, inner, session)
    assert len(kept.rows()) > len(before) + 15
    await house.core.sessions.delete(deleted)
    clock.now += KEEP
    await house.core.retention.sweep()
    assert kept.rows() == before - Counter({"documents sessions": 1}) + Counter({"documents contexts": 1})
    await house.core.sessions.delete(keeping)
    assert kept.rows() == before - Counter({"documents sessions": 2})


async def _with_all_it_can_have(house: House, outer: Hand, inner: Hand, session: str) -> None:
    """A finished task with large values, a child of a child, events from outside, a journal and a stream."""
    task = await house.submit(session, "outer", "x" * 2000, deadline=1000.0)
    (parent,) = await outer.claim()
    await outer.record(parent, 0, {"tick": 1})
    await outer.wait(parent, "Answer")
    answer = Sent("outer", "Answer", msgspec.Raw(b'{"response":"yes"}'), "text", key="once")
    await house.core.inbox.send(session, task.id, answer)
    outcome = await outer.call(parent, "inner", text="y" * 2000)
    (child,) = await inner.claim()
    below = await inner.call(child, "inner", text="z" * 2000)
    (grandchild,) = await inner.claim()
    await inner.complete(grandchild, 1)
    await below
    await inner.complete(child, ["v" * 2000])
    await outcome
    await outer.emit(parent, 1, 2)
    await outer.complete(parent, ["w" * 2000], context="kept")


async def test_a_child_that_is_still_about_to_end_ends_before_its_task_goes(make_house: MakeHouse) -> None:
    clock = Clock()
    house = await make_house(clock=clock, keep_finished_for=KEEP)
    outer, _ = await house.worker("outer"), await house.worker("inner")
    await house.submit(await house.core.sessions.create(), "outer")
    (parent,) = await outer.claim()
    waits = await outer.call(parent, "inner")
    house.core.kernel.on_sweep = lambda _: None  # as if the control plane had stopped before it came to that
    await outer.complete(parent)
    clock.now += KEEP
    await house.core.retention.sweep()
    assert [document.key for document in await house.store.scan("items")] == []
    assert [document.key for document in await house.store.scan("ready/inner")] == []
    assert house.core.kernel.backlog.count("inner") == 0
    (told,) = await asyncio.gather(waits, return_exceptions=True)
    assert isinstance(told, Fenced) or (isinstance(told, Outcome) and told.status is TaskStatus.CANCELLED)


async def test_lists_come_in_pages_in_order(make_house: MakeHouse) -> None:
    house = await make_house()
    await house.worker()
    sessions = sorted([await house.core.sessions.create() for _ in range(7)])
    tasks = [(await house.submit(sessions[0])).id for _ in range(7)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page, cursor = await house.core.listing.tasks(sessions[0], cursor, 3)
        seen += [task.id for task in page]
    assert seen == tasks
    newest = await house.core.listing.newest(sessions[0])
    assert newest is not None
    assert newest.id == tasks[-1]
    pages = []
    cursor = ""
    while cursor is not None:
        views, cursor = await house.core.listing.sessions(cursor, 3)
        pages.append([view.session_id for view in views])
    assert pages == [sessions[:3], sessions[3:6], sessions[6:]]


async def test_tasks_of_one_moment_are_listed_as_they_came(make_house: MakeHouse) -> None:
    house = await make_house(clock=Clock())
    await house.worker()
    session = await house.core.sessions.create()
    tasks = [(await house.submit(session, task_id=f"{9 - number}")).id for number in range(9)]
    assert (await house.core.listing.session(session)).task_ids == tasks


async def test_the_file_does_not_grow_while_old_tasks_make_room_for_new_ones(make_house: MakeHouse, kept: Kept) -> None:
    clock = Clock()
    house = await make_house(clock=clock, store=kept.store, keep_finished_for=KEEP)
    worker = await house.worker(parallel=True)
    session = await house.core.sessions.create()
    sizes = []
    for _ in range(4):
        for _ in range(40):
            await serve(house, worker, session, json.dumps({"x": "y" * 20_000}))
        clock.now += KEEP
        await house.core.retention.sweep()
        sizes.append(kept.pages())
    assert sizes[0] > 200
    assert sizes[3] <= sizes[0] * 1.1


@pytest.mark.shows("accept.kept")
async def test_an_id_stands_for_its_task_as_long_as_that_is_kept(make_house: MakeHouse) -> None:
    clock = Clock()
    house = await make_house(clock=clock, keep_finished_for=KEEP)
    worker = await house.worker()
    session = await house.core.sessions.create()
    await house.submit(session, task_id="t", text='{"a": 1}')
    (grant,) = await worker.claim()
    await worker.complete(grant, 1)
    clock.now += KEEP - 1
    await house.core.retention.sweep()
    with pytest.raises(TaskConflict):
        await house.submit(session, task_id="t", text='{"a": 2}')
    clock.now += 1
    await house.core.retention.sweep()
    assert (await house.submit(session, task_id="t", text='{"a": 2}')).input == '{"a": 2}'
