"""The history of a task: what its stream, and the logs, journals and inboxes of its items tell, put in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec

from arriero.core import names, records
from arriero.core.kernel import Kernel, decode
from arriero.core.outlook import waits_for
from arriero.core.records import ItemRecord, LogRecord, StreamEntry, TaskRecord, item_ids
from arriero.core.steps import Steps
from arriero.state_stores.base import Entry
from arriero.types.history import HistoryEntry, HistoryItem, TaskHistory
from arriero.types.tasks import TaskStatus

#: The most items and entries that one history takes into account, and the most entries of one answer.
MOST_ITEMS = 1000
MOST_ENTRIES = 20_000
MOST = 10_000
#: How many are read together.
PAGE = 100
#: Bytes of data after which the rest of the entries is left to the next answer.
MOST_DATA = 16 * 1024 * 1024


class History:
    """Reads histories. Everything in one was committed; nothing is kept for it that is not needed otherwise, but for
    the logs of items, which are short.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def of(self, task: TaskRecord, after: int = 0, limit: int = MOST, *, data: bool = False) -> TaskHistory:
        """The history of a task, from behind the ``after``-th entry on; with what events hold only if ``data``."""
        left_out: dict[str, int] = {}
        items = await self._items(task, left_out)
        told = _Told()
        for item in items:
            await self._tell_item(told, item, task)
        await self._tell_stream(told, task)
        entries = list(told.in_order(task))
        if told.left_out:
            left_out["entries"] = told.left_out
        page = entries[after : after + limit]
        if data:
            page = await self._filled(task, page)
        more = after + len(page) < len(entries)
        return TaskHistory(
            task_id=task.id,
            session_id=task.session_id,
            service=task.service,
            status=task.status,
            created_at=task.created_at,
            started_at=task.started_at,
            finished_at=task.finished_at,
            attempts=task.attempts,
            error=task.error,
            forked_from=task.forked_from,
            forked_after=task.forked_after,
            replay_of=task.replay_of,
            items=[await self._item(told, item) for item in items] if not after else [],
            entries=page,
            left_out=left_out,
            following=after + len(page) if more else None,
        )

    async def _items(self, task: TaskRecord, left_out: dict[str, int]) -> list[ItemRecord]:
        """The items of a task, each before its children."""
        found: list[ItemRecord] = []
        async for item in self._below(item_ids(task)):
            if len(found) == MOST_ITEMS:
                left_out["items"] = 1  # at least: those below it are not looked for
                break
            found.append(item)
        return found

    async def _below(self, ids: Iterable[str]) -> AsyncIterator[ItemRecord]:
        for item_id in ids:
            item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
            if item is None:
                continue
            yield item.record
            after = ""
            while item.record.calls and (page := await self._kernel.store.scan(names.children(item_id), after, PAGE)):
                async for child in self._below([document.key for document in page]):
                    yield child
                after = page[-1].key

    async def _item(self, told: _Told, item: ItemRecord) -> HistoryItem:
        return HistoryItem(
            item_id=item.id,
            service=item.service,
            status=item.status,
            parent=item.parent,
            path=item.path,
            epoch=item.epoch,
            attempts=item.attempt,
            losses=item.losses,
            worker_id=item.worker_id,
            steps=told.steps.get(item.id, 0),
            created_at=_ordered_at(item),
            started_at=item.started_at,
            ended_at=item.ended_at,
            waits_for=[] if item.ended else await waits_for(self._kernel, item),
            error=item.error,
        )

    async def _tell_item(self, told: _Told, item: ItemRecord, task: TaskRecord) -> None:
        told.item(item)
        await self._tell_steps(told, item, task)
        async for entry in self._log(names.item_log(item.id), there=item.logged):
            if not told.log(item, decode(records.LOG, entry.value, f"log of item {item.id}")):
                break
        if item.claimed_at is not None and (item.claimed or item.ended_at is not None):
            told.claim(item, item.epoch, item.worker_id, item.claimed_at)
        if item.ended_at is not None:
            ended = HistoryEntry(at=item.ended_at, kind="item_ended", status=item.status, error=item.error)
            told.add(item, ended)
        if item.inbox:
            await self._tell_inbox(told, item)

    async def _tell_steps(self, told: _Told, item: ItemRecord, task: TaskRecord) -> None:
        steps = Steps()
        async for entry in self._log(names.journal_log(item.id), there=item.journaled):
            for step in steps.read(entry.value):
                if task.forked_from is not None and step.at < task.created_at:
                    step.reason = f"in task {task.forked_from}"
                told.add(item, step)
        told.steps[item.id] = steps.finished
        if item.ended_at is not None and (last := _last_step(item, task, item.ended_at)) is not None:
            last.step = steps.label(last.step)
            told.add(item, last)

    async def _tell_inbox(self, told: _Told, item: ItemRecord) -> None:
        after = ""
        while page := await self._kernel.store.scan(names.inbox(item.id), after, PAGE):
            for document in page:
                sent = decode(records.ARRIVAL, document.value, f"event {document.key} of item {item.id}")
                entry = HistoryEntry(at=sent.at, kind="sent", type=sent.type, seq=int(document.key))
                told.add(item, entry)
            after = page[-1].key

    async def _tell_stream(self, told: _Told, task: TaskRecord) -> None:
        async for entry in self._log(names.stream_log(task.id)):
            if not told.stream(entry.seq, decode(records.ENTRY, entry.value, f"stream of task {task.id}")):
                head = await self._kernel.store.head(names.stream_log(task.id))
                told.left_out += head.seq - entry.seq - head.ended
                return

    async def _filled(self, task: TaskRecord, page: list[HistoryEntry]) -> list[HistoryEntry]:
        """As many of these as one answer holds with their data; one at least."""
        size = 0
        for number, entry in enumerate(page):
            data = await self._data(task, entry)
            size += memoryview(data).nbytes
            entry.data = msgspec.json.decode(data)
            if size > MOST_DATA and number:
                return page[:number]
        return page

    async def _data(self, task: TaskRecord, entry: HistoryEntry) -> msgspec.Raw:
        if entry.kind == "event":
            for found in await self._kernel.store.read_log(names.stream_log(task.id), entry.seq - 1, 1):
                return decode(records.ENTRY, found.value, f"stream of task {task.id}").data
        if entry.kind == "sent":
            sent = await self._kernel.load(records.ARRIVAL, names.inbox(entry.item_id), names.place(entry.seq))
            return sent.record.data if sent is not None else records.NULL
        return records.NULL

    async def _log(self, log: str, *, there: bool = True) -> AsyncIterator[Entry]:
        after = 0
        while there and (page := await self._kernel.store.read_log(log, after, PAGE)):
            for entry in page:
                yield entry
            after = page[-1].seq


class _Told:
    """What was found so far."""

    def __init__(self) -> None:
        self._entries: list[HistoryEntry] = []
        self._claims: set[tuple[str, int]] = set()
        self._paths: dict[str, tuple[str, str]] = {}
        self.steps: dict[str, int] = {}
        self.left_out = 0

    def add(self, item: ItemRecord, entry: HistoryEntry) -> bool:
        """Whether there was room for it."""
        entry.item_id, entry.service = item.id, item.service
        entry.path = entry.path or item.path
        return self._add(entry)

    def _add(self, entry: HistoryEntry) -> bool:
        if len(self._entries) >= MOST_ENTRIES:
            self.left_out += 1
            return False
        self._entries.append(entry)
        return True

    def item(self, item: ItemRecord) -> None:
        self._paths[item.id] = item.service, item.path
        self.add(item, HistoryEntry(at=_ordered_at(item), kind="ordered"))

    def claim(self, item: ItemRecord, epoch: int, worker: str, at: float) -> None:
        if (item.id, epoch) not in self._claims:
            self._claims.add((item.id, epoch))
            self.add(item, HistoryEntry(at=at, kind="claimed", epoch=epoch, worker_id=worker))

    def log(self, item: ItemRecord, log: LogRecord) -> bool:
        if log.since is not None:
            self.claim(item, log.epoch, log.worker, log.since)
        return self.add(
            item,
            HistoryEntry(
                at=log.at,
                kind=log.kind,
                epoch=log.epoch,
                worker_id=log.worker,
                attempt=log.attempt,
                delay=log.delay,
                reason=log.reason,
                error=log.error,
            ),
        )

    def stream(self, seq: int, entry: StreamEntry) -> bool:
        if entry.kind != "event":  # the others are told of the task and its items
            return True
        service, path = self._paths.get(entry.item, ("", ""))
        told = HistoryEntry(
            at=entry.at,
            kind="event",
            item_id=entry.item,
            service=service,
            path=entry.path or path,
            epoch=entry.epoch,
            type=entry.type,
            seq=seq,
        )
        return self._add(told)

    def in_order(self, task: TaskRecord) -> Iterator[HistoryEntry]:
        """Everything by its time; what happened at the same one, in the order in which it was found."""
        first = HistoryEntry(at=task.created_at, kind="submitted", service=task.service)
        last = [HistoryEntry(at=task.finished_at, kind="ended", service=task.service)] if task.finished_at else []
        for entry in last:
            entry.status, entry.error = task.status, task.error
        found = sorted([first, *self._entries], key=lambda entry: entry.at)
        for number, entry in enumerate([*found, *last], 1):
            entry.number = number
            yield entry


def _last_step(item: ItemRecord, task: TaskRecord, at: float) -> HistoryEntry | None:
    """The step that ended an item, which is not in its journal."""
    if item.last_step:
        since = None if item.took is None else at - item.took
        return HistoryEntry(at=at, kind="step", step=item.last_step, since=since)
    error = item.error or (task.error if task.ordered == 1 and item.parent is None else None)
    step = error.details.get("step") if error is not None and item.status is TaskStatus.FAILED else None
    return HistoryEntry(at=at, kind="step_failed", step=step, error=error) if isinstance(step, str) else None


def _ordered_at(item: ItemRecord) -> float:
    return item.called_at if item.called_at is not None else item.created_at
