"""Who watches every commit of a simulation, and says which of them should never have been."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from arriero.core import names, records
from arriero.core.records import ItemRecord, StreamEntry, TaskRecord
from arriero.state_stores.base import Append, Expect, Op, Put

Lane = tuple[str, str]


class Witness:
    """Keeps what commits say of items, tasks, streams and journals; ``anomalies`` are what breaks a promise."""

    def __init__(self) -> None:
        self.anomalies: list[str] = []
        self.items: dict[str, ItemRecord] = {}
        self.tasks: dict[str, TaskRecord] = {}
        self.commits = 0
        #: The items of a session for a service, in the order of their acceptance.
        self.lanes: defaultdict[Lane, list[str]] = defaultdict(list)
        #: Results of steps that were kept, by their item.
        self.finished: defaultdict[str, set[str]] = defaultdict(set)
        self._streams: defaultdict[str, list[StreamEntry]] = defaultdict(list)
        self._next: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._digest = hashlib.blake2b(digest_size=8)

    @property
    def digest(self) -> str:
        """The same for two runs in which the same was committed in the same order."""
        return self._digest.hexdigest()

    def blame(self, what: str) -> None:
        """Note an anomaly."""
        self.anomalies.append(f"commit {self.commits}: {what}")

    def step_begins(self, item_id: str, tick: str) -> None:
        """A step begins whose result would be kept under that name."""
        if tick in self.finished[item_id]:
            self.blame(f"a finished step of item {item_id} begins again: {tick}")

    def committed(self, ops: Sequence[Op]) -> None:
        """A commit took effect."""
        self.commits += 1
        claimed = [item for op in ops if isinstance(op, Put) if (item := self._put(op)) is not None]
        for item in claimed:
            self._check_turn(item)
        for op in ops:
            if isinstance(op, Append):
                self._appended(op, ops)
        self._digest.update(repr(ops).encode())

    def stream(self, task_id: str) -> list[StreamEntry]:
        """What the stream of a task holds."""
        return self._streams[task_id]

    def _put(self, op: Put) -> ItemRecord | None:
        """Take note of a record; gives an item that was just claimed."""
        if op.collection == names.TASKS:
            self._task(records.TASK.decode(op.value))
        elif op.collection == names.ITEMS:
            return self._item(records.ITEM.decode(op.value))
        return None

    def _task(self, task: TaskRecord) -> None:
        before = self.tasks.get(task.id)
        if before is not None and before.ended and _end_of(before) != _end_of(task):
            self.blame(f"task {task.id} ended as {_end_of(before)} and then as {_end_of(task)}")
        self.tasks[task.id] = task

    def _item(self, item: ItemRecord) -> ItemRecord | None:
        before = self.items.get(item.id)
        self.items[item.id] = item
        if before is None:
            if item.parent is None and not item.parallel:
                self.lanes[item.session_id, item.service].append(item.id)
            return item if item.claimed else None
        if before.ended and _end_of(before) != _end_of(item):
            self.blame(f"item {item.id} ended as {_end_of(before)} and then as {_end_of(item)}")
        if item.reported not in (before.reported, before.token):
            self.blame(f"a report on item {item.id} was taken under an old claim")
        if item.epoch < before.epoch:
            self.blame(f"item {item.id} goes back from epoch {before.epoch} to {item.epoch}")
        if item.epoch == before.epoch and item.token != before.token and item.token:
            self.blame(f"item {item.id} has another token in the same epoch")
        return item if item.epoch > before.epoch else None

    def _check_turn(self, item: ItemRecord) -> None:
        """Everything before a claimed item in its lane has ended."""
        if item.parent is not None or item.parallel:
            return
        for other_id in self.lanes[item.session_id, item.service]:
            if other_id == item.id:
                return
            if not self.items[other_id].ended:
                self.blame(f"item {item.id} is claimed while {other_id} before it has not ended")

    def _appended(self, op: Append, ops: Sequence[Op]) -> None:
        kind, _, name = op.log.partition("/")
        if kind == "stream":
            for value in op.values:
                self._entry(name, records.ENTRY.decode(value))
        elif kind == "journal":
            if not any(isinstance(each, Put | Expect) and each.key == name for each in ops):
                self.blame(f"the journal of {name} is written without a look at who has the item")
            for value in op.values:
                self._journal(name, msgspec.json.decode(value))

    def _entry(self, task_id: str, entry: StreamEntry) -> None:
        stream = self._streams[task_id]
        if stream and stream[-1].kind == "end":
            self.blame(f"the stream of {task_id} goes on behind its end")
        stream.append(entry)
        if entry.kind != "event":
            return
        item = self.items.get(entry.item)
        if item is None or item.epoch != entry.epoch:
            self.blame(f"an event of epoch {entry.epoch} of {entry.item} came when that was over")
        wanted = self._next[entry.item, entry.epoch]
        if entry.number != wanted:
            self.blame(f"event {entry.number} of {entry.item} in epoch {entry.epoch} came when {wanted} was due")
        self._next[entry.item, entry.epoch] = entry.number + 1

    def _journal(self, item_id: str, entry: dict[str, Any]) -> None:
        for tick in entry.get("ticks", ()):
            if tick.get("type") != "step_result" or not _has_result(tick):
                continue
            name = finished_name(str(tick["step_id"]), tick["event"]["value"])
            if name in self.finished[item_id]:
                self.blame(f"the journal of {item_id} holds the end of a step twice: {name}")
            self.finished[item_id].add(name)


def finished_name(step: str, fields: Any) -> str:
    """What a step does with an event, told apart from all else that a run does if no event comes twice."""
    return f"{step} {msgspec.json.encode(fields, order='sorted').decode()}"


def _has_result(tick: dict[str, Any]) -> bool:
    return any(result.get("type") == "result" for result in tick.get("result", ()))


def _end_of(record: TaskRecord | ItemRecord) -> tuple[str, bytes]:
    return str(record.status), bytes(record.value)
