"""Events from outside: stored for an item before they are acknowledged, and given to whoever has it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import msgspec

from arriero.core import names, records
from arriero.core.arrivals import arrivals_of, to_arrival
from arriero.core.kernel import Change, Kernel
from arriero.core.links import Link, Links
from arriero.core.outlook import open_children
from arriero.core.parking import unpark
from arriero.core.records import ArrivalRecord, ItemRecord, Loaded, TaskRecord, item_ids
from arriero.core.services import Services
from arriero.core.tasks import TRIES, Tasks
from arriero.types.errors import (
    AlreadyAnswered,
    AlreadyEnded,
    InvalidInput,
    PayloadTooLarge,
    StateConflict,
    TaskConflict,
    UnknownEvent,
)
from arriero.types.link import Deliver
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import TaskStatus

#: The most events that one item takes from outside.
MOST = 1000
#: How many events an error names.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Sent:
    """An event as it came: ``type`` by any name that the service accepts, ``data`` an object, ``text`` all of it."""

    service: str
    type: str
    data: msgspec.Raw
    text: str
    key: str | None = None


class Inbox:
    """Takes events for the items of tasks.

    A service that no worker of ours ever served is sent the documented message instead, for its events are not known.
    """

    def __init__(self, kernel: Kernel, services: Services, links: Links, tasks: Tasks) -> None:
        self._kernel = kernel
        self._services = services
        self._links = links
        self._tasks = tasks
        links.on_missed = self.redeliver

    async def send(self, session_id: str, task_id: str, sent: Sent) -> None:
        """Store an event for a task; when this returns, it will reach the run, wherever it is or will be.

        Errors: ``UnknownTask``, ``UnknownService``, ``UnknownEvent``, ``AlreadyAnswered``, ``AlreadyEnded``,
        ``TaskConflict`` for a key with another event.
        """
        self._check(sent)
        for _ in range(TRIES):
            task = await self._tasks.get(session_id, task_id)
            if task.ended and await self._is_repeat(task.id, sent):
                return
            if task.ended:
                raise AlreadyEnded(f"task {task_id!r} has ended ({task.status.value}); it takes no event any more")
            try:
                await self._send(task, sent)
            except StateConflict:
                continue
            return
        raise StateConflict(f"task {task_id!r} keeps changing; send the event again")

    async def _send(self, task: TaskRecord, sent: Sent) -> None:
        service = self._services.require(sent.service)
        item = await self._addressee(task, sent.service)
        if service.linked:
            sent = _by_known_name(service.accepts, sent)
            await self._store(item, sent, is_answer=self._kind(service.accepts, sent))
        else:
            await self._forward(task, sent)

    async def redeliver(self, link: Link, item_id: str, seen: int = 0) -> None:
        """What was sent to an item follows, as far as its worker has not seen it: events that were given to a worker
        while it was away, or before it heard that it has the item, have not reached it.
        """
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is not None and item.record.inbox and link.held.get(item_id) == item.record.token:
            arrivals = [each for each in await arrivals_of(self._kernel, item.record) if each.seq > seen]
            link.push(Deliver(item_id=item_id, token=item.record.token, arrivals=arrivals))

    def _check(self, sent: Sent) -> None:
        limit = self._kernel.config.max_event
        if len(sent.text) > limit:
            raise PayloadTooLarge(
                f"the event has {len(sent.text)} bytes; the limit is {limit} bytes (setting max_event of "
                "ControlPlaneConfig, CONTROL_PLANE_MAX_EVENT)",
                limit=limit,
            )

    def _kind(self, accepts: dict[str, bool], sent: Sent) -> bool:
        is_answer = accepts.get(sent.type)
        if is_answer is None:
            listed = ", ".join(sorted(accepts)[:SHOWN]) or "none"
            raise UnknownEvent(
                f"service {sent.service!r} takes no event {sent.type[:200]!r} from outside; it takes: {listed}",
                accepts=sorted(accepts)[:SHOWN],
            )
        return is_answer

    async def _addressee(self, task: TaskRecord, service: str) -> Loaded[ItemRecord]:
        """The open item of the task for that service; one that asks comes before one that does not, else the oldest."""
        found: list[ItemRecord] = []
        others: set[str] = set()
        left = item_ids(task)
        while left and len(found) < SHOWN:
            item = await self._kernel.load(records.ITEM, names.ITEMS, left.pop(0))
            if item is None or item.record.ended:
                continue
            if item.record.service == service:
                found.append(item.record)
            others.add(item.record.service)
            left += [child.id for child in await open_children(self._kernel, item.record)]
        if not found:
            listed = ", ".join(sorted(others)) or "none"
            raise InvalidInput(
                f"service {service!r} does nothing for task {task.id!r} now; at work or queued for it: {listed}"
            )
        best = min(found, key=lambda item: item.asked <= item.answered)
        chosen = await self._kernel.load(records.ITEM, names.ITEMS, best.id)
        assert chosen is not None  # a task's items stay as long as it is open
        return chosen

    async def _store(self, item: Loaded[ItemRecord], sent: Sent, *, is_answer: bool) -> None:
        record = item.record
        if await self._is_repeat(record.id, sent):
            return
        if is_answer and 0 < record.asked <= record.answered:
            raise AlreadyAnswered(f"what task {record.task_id!r} asked of {sent.service!r} has its answer already")
        if record.inbox >= MOST:
            raise PayloadTooLarge(f"item {record.id!r} was sent {MOST} events, which is the limit", limit=MOST)
        change = Change()
        record.inbox += 1
        record.answered += is_answer
        if record.status is TaskStatus.WAITING and record.parked:
            unpark(self._kernel, change, record, f"{sent.type} came")
        elif record.status is TaskStatus.WAITING:
            record.status, record.awaits = TaskStatus.RUNNING, []
        arrival = ArrivalRecord(type=sent.type, data=sent.data, at=self._kernel.clock())
        change.put(names.inbox(record.id), names.place(record.inbox), arrival, expect=0)
        if sent.key is not None:
            change.put(names.inbox_keys(record.id), _digest(sent.key), _digest(sent.text), expect=0)
        change.put(names.ITEMS, record.id, record, expect=item.version)
        await self._kernel.apply(change)
        self._links.deliver(record, [to_arrival(record.inbox, arrival)])

    async def _is_repeat(self, item_id: str, sent: Sent) -> bool:
        if sent.key is None:
            return False
        known = await self._kernel.load(records.TEXT, names.inbox_keys(item_id), _digest(sent.key))
        if known is not None and known.record != _digest(sent.text):
            raise TaskConflict("another event was sent under this Idempotency-Key; use a new one")
        return known is not None

    async def _forward(self, task: TaskRecord, sent: Sent) -> None:
        data = {
            "input": sent.text,
            "task_id": task.id,
            "session_id": task.session_id,
            "service_id": sent.service,
            "agent_id": sent.service,
        }
        message = QueueMessage(type=sent.service, action=ActionTypes.SEND_EVENT, data=data)
        await self._kernel.publish(message, f"{self._kernel.config.topic_namespace}.{sent.service}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _by_known_name(accepts: dict[str, bool], sent: Sent) -> Sent:
    """The event by a name that the service knows: its class may lie in another module where it is sent."""
    name = sent.type.rpartition(".")[2]
    return sent if sent.type in accepts or name not in accepts else replace(sent, type=name)
