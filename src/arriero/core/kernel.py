"""What every use case stands on: the store, the queue, the clock, and the change that a commit makes."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from arriero.core import names, records
from arriero.core.agenda import Agenda, Background, Waits
from arriero.core.backlog import Backlog
from arriero.core.endings import Endings, Offspring
from arriero.core.locks import Turns
from arriero.core.ready import ReadyIndex
from arriero.core.records import Codec, Loaded
from arriero.core.values import Values
from arriero.message_queues.base import MessageQueue, PublishCallback
from arriero.orchestrators.base import BaseOrchestrator
from arriero.state_stores.base import Append, Committed, Delete, Drop, Expect, Op, Put, StateStore
from arriero.types.errors import InvalidInput, LogEnded, StateConflict, StoreDamaged, StoreUnavailable
from arriero.types.messages import QueueMessage
from arriero.types.settings import ControlPlaneConfig

if TYPE_CHECKING:
    from arriero.core.decisions import Asking

T = TypeVar("T")

logger = logging.getLogger("arriero.core")

#: The least time between two ticks, in seconds: two microseconds, since moments are told in whole ones.
TICK = 2e-6
#: Errors of a commit that surely is not done.
REFUSED = (StateConflict, LogEnded, InvalidInput)


class Change:
    """One commit in the making, and what is to follow when it stands.

    ``before`` is done last of all before the commit, ``failed`` when it raised: what cannot be told then is whether a
    commit whose caller was cancelled is done.
    """

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.ready: list[tuple[str, str]] = []
        self.gone: list[tuple[str, str]] = []
        self.before: list[Callable[[], None]] = []
        self.after: list[Callable[[], None]] = []
        self.failed: list[Callable[[BaseException], None]] = []
        self.lanes: dict[str, records.Loaded[records.LaneRecord]] = {}
        #: By how many more items of each service are queued, whether ready, behind another, or awaiting a retry.
        self.queued: dict[str, int] = {}

    def put(self, collection: str, key: str, record: object, expect: int | None = None) -> None:
        self.ops.append(Put(collection, key, records.encode(record), expect))

    def delete(self, collection: str, key: str) -> None:
        self.ops.append(Delete(collection, key))

    def expect(self, collection: str, key: str, version: int) -> None:
        self.ops.append(Expect(collection, key, version))

    def append(self, log: str, *entries: object, end: bool = False) -> None:
        self.ops.append(Append(log, tuple(records.encode(entry) for entry in entries), end))

    def drop(self, log: str) -> None:
        self.ops.append(Drop(log))

    def make_ready(self, item: records.ItemRecord) -> None:
        """Put the item into its service's ready index."""
        key = names.dated_key(item.created_at, item.id)
        self.ops.append(Put(names.ready(item.service), key, b"null"))
        self.ready.append((item.service, key))
        self.count(item.service, 1)

    def unready(self, item: records.ItemRecord) -> None:
        key = names.dated_key(item.created_at, item.id)
        self.delete(names.ready(item.service), key)
        self.gone.append((item.service, key))
        self.count(item.service, -1)

    def count(self, service: str, by: int) -> None:
        self.queued[service] = self.queued.get(service, 0) + by


class Kernel:
    """The parts, held together. ``on_order`` puts each new item that may run into its change.

    ``on_ready`` is told of each item that became ready, ``on_deadline`` of each new task with a deadline, ``on_outbox``
    of each kept message, ``on_stop`` of each item that was ended from outside, ``on_sweep`` of each item that has ended
    and had children, ``on_finished`` of each end of a task, ``on_damaged`` of each item that cannot be done, and why,
    ``on_shape`` of each worker whose handler keeps journals, by its service and shape, ``on_doubt`` of each commit that
    failed and may be done. ``on_undecided`` is told of each task whose orchestrator takes its time, ``on_overtaken`` of
    each such one that has ended. ``on_stock`` reads anew what is ready, due and to be sent.
    """

    def __init__(
        self,
        store: StateStore,
        queue: MessageQueue | None,
        orchestrator: BaseOrchestrator,
        config: ControlPlaneConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.queue = queue
        self.orchestrator = orchestrator
        self.config = config
        self.clock = clock
        self.publisher_id = "default"
        self.publish_callback: PublishCallback | None = None
        self.background = Background()
        self.agenda = Agenda(self.background)
        self.waits = Waits()
        self.turns = Turns()
        self.endings = Endings()
        self.offspring = Offspring()
        self.ready = ReadyIndex(store)
        self.backlog = Backlog(store, clock)
        self.values = Values(store, config.large_value)
        self._tick = 0.0
        #: Whether the newest commit failed, so that it is to be tried whether the store can be written again.
        self.unwritten = False
        self.on_order: Callable[[Change, records.TaskRecord, records.ItemRecord], Awaitable[None]] = _no_order
        self.on_ready: Callable[[str, str], None] = _nobody
        self.on_claim: Callable[[str], None] = _nobody
        self.on_deadline: Callable[[records.TaskRecord], None] = _nobody
        self.on_outbox: Callable[[str], None] = _nobody
        self.on_stop: Callable[[records.ItemRecord, str], None] = _nobody
        self.on_sweep: Callable[[str], None] = _nobody
        self.on_finished: Callable[[], None] = _nobody
        self.on_damaged: Callable[[str, StoreDamaged], None] = _nobody
        self.on_shape: Callable[[str, str], None] = _nobody
        self.on_doubt: Callable[[], None] = _nobody
        self.on_undecided: Callable[[str, Asking | None], None] = _nobody
        self.on_overtaken: Callable[[str], None] = _nobody
        self.on_stock: Callable[[], Awaitable[None]] = _no_stock

    def tick(self) -> float:
        """The time now, later than that of every call before: what is kept in its order stands in that of the calls."""
        self._tick = max(self.clock(), self._tick + TICK)
        return self._tick

    async def load(self, codec: Codec[T], collection: str, key: str) -> Loaded[T] | None:
        """A record and its version; :class:`StoreDamaged` names the one that cannot be read."""
        document = await self.store.get(collection, key)
        if document is None:
            return None
        return Loaded(decode(codec, document.value, f"{collection} {key}"), document.version)

    async def apply(self, change: Change, *, durable: bool = True) -> Committed:
        """Commit, then do what follows."""
        for step in change.before:
            step()
        change.before.clear()  # they know the change, which is to be freed with its last user
        try:
            committed = await self.store.commit(change.ops, durable=durable)
        except BaseException as error:
            for undo in change.failed:
                undo(error)
            if not isinstance(error, REFUSED):
                self.on_doubt()
            self.unwritten = self.unwritten or isinstance(error, StoreUnavailable)
            raise
        self.unwritten = False
        self.backlog.add(change.queued)
        for service, key in change.gone:
            self.ready.drop(service, key)
        for service, key in change.ready:
            self.ready.add(service, key)
            self.on_ready(service, names.dated(key))
        for step in change.after:
            step()
        return committed

    async def publish(self, message: QueueMessage, topic: str) -> None:
        """Publish in the control plane's name what must not be lost, and tell the callback."""
        assert self.queue is not None  # whoever publishes has looked
        message.publisher_id = self.publisher_id
        await self.queue.publish(message, topic=topic)
        if self.publish_callback is None:
            return
        try:
            answer = self.publish_callback(message)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # a user's code: what it raises is not the message's
            logger.exception("the publish callback failed")


async def _no_stock() -> None:
    """Stands for who looks at the store."""


async def _no_order(change: Change, task: records.TaskRecord, item: records.ItemRecord) -> None:
    """Stands for who puts new items into a change."""


def _nobody(*_: object) -> None:
    """Stands for a listener that is not there."""


def decode(codec: Codec[T], value: bytes, what: str) -> T:
    """Stored bytes as a record."""
    try:
        return codec.decode(value)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"the stored {what} cannot be read: {error}") from error
