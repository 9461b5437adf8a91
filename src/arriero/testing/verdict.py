"""What must be true of a simulation when everything that was accepted should have ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from arriero.core import names, records
from arriero.core.records import TaskRecord
from arriero.state_stores.base import Document, StateStore
from arriero.testing.workloads import expected
from arriero.types.tasks import TaskStatus

if TYPE_CHECKING:
    from arriero.testing.simulation import Asked, Simulation

#: Seconds until all must have ended once nothing goes wrong any more.
PATIENCE = 600.0
#: Seconds that children have to end after their parents.
SWEPT = 30.0
CUT_SHORT = frozenset({TaskStatus.CANCELLED, TaskStatus.TIMED_OUT})


async def judge(simulation: Simulation, store: StateStore) -> None:
    """Wait for every end, then compare what came of each task with what should have."""
    witness = simulation.witness
    accepted = [asked for asked in simulation.asked if asked.accepted]
    try:
        async with asyncio.timeout(PATIENCE):
            for asked in accepted:
                await _ended(store, asked)
    except TimeoutError:
        open_ = [asked for asked in accepted if not witness.tasks[asked.task_id].ended]
        for asked in open_:
            witness.blame(f"task {asked.task_id} of {asked.service} is stuck: {_shown(simulation, asked)}")
        return
    await asyncio.sleep(SWEPT)
    for item in witness.items.values():
        if not item.ended:
            witness.blame(f"item {item.id} of {item.service} outlived its task")
    for asked in accepted:
        task = records.TASK.decode((await _document(store, asked.task_id)).value)
        _check_end(simulation, asked, task)
        await _check_stream(simulation, store, asked.task_id)
    _check_counters(simulation)


async def _ended(store: StateStore, asked: Asked) -> None:
    async for head in store.watch(names.stream_log(asked.task_id)):
        if head.ended:
            return


def _shown(simulation: Simulation, asked: Asked) -> str:
    items = [item for item in simulation.witness.items.values() if item.task_id == asked.task_id and not item.ended]
    return "; ".join(
        f"item {item.id} of {item.service} {item.status} epoch {item.epoch} at {item.worker_id or 'nobody'}"
        for item in items
    )


async def _document(store: StateStore, task_id: str) -> Document:
    found = await store.get(names.TASKS, task_id)
    assert found is not None, f"task {task_id} is gone"
    return found


def _check_end(simulation: Simulation, asked: Asked, task: TaskRecord) -> None:
    blame = simulation.witness.blame
    if task.status is not TaskStatus.COMPLETED:
        if not (task.status in CUT_SHORT and asked.may_be_cancelled):
            why = task.error.message if task.error else "for no reason"
            blame(f"task {task.id} of {asked.service} is {task.status}: {why}")
        return
    value = msgspec.json.decode(task.value)
    wanted = expected(asked.service, asked.given)
    if wanted is not None and value != wanted:
        blame(f"task {task.id} of {asked.service} gave {value!r} instead of {wanted!r}")
    if asked.service == "asking" and asked.answers != [value]:
        blame(f"task {task.id} gave {value!r}; these answers were taken: {asked.answers}")


async def _check_stream(simulation: Simulation, store: StateStore, task_id: str) -> None:
    entries = await store.read_log(names.stream_log(task_id), 0, 10_000)
    kinds = [records.ENTRY.decode(entry.value).kind for entry in entries]
    if [entry.seq for entry in entries] != list(range(1, len(entries) + 1)):
        simulation.witness.blame(f"the stream of {task_id} has gaps")
    if kinds.count("end") != 1 or kinds[-1] != "end":
        simulation.witness.blame(f"the stream of {task_id} ends {kinds.count('end')} times: {kinds}")
    read = simulation.read.get(task_id)
    if read is not None and read != [entry.seq for entry in entries]:
        simulation.witness.blame(f"a reader of {task_id} got {read}, and there are {len(entries)} entries")


def _check_counters(simulation: Simulation) -> None:
    """The tasks of a session count up in the order in which they were accepted."""
    for (session, service), items in simulation.witness.lanes.items():
        if service != "counter":
            continue
        tasks = [simulation.witness.tasks[item_id] for item_id in items]
        counts = [msgspec.json.decode(task.value) for task in tasks if task.status is TaskStatus.COMPLETED]
        if counts != list(range(1, len(counts) + 1)):
            simulation.witness.blame(f"session {session} counted {counts}")
