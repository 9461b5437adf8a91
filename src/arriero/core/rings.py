"""Rings and kept messages: what the control plane publishes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from arriero.core import names, records
from arriero.core.kernel import Change, Kernel
from arriero.core.links import Links
from arriero.core.records import ItemRecord, TaskRecord
from arriero.core.services import Services
from arriero.core.values import INPUT
from arriero.types.errors import ArrieroError, StoreDamaged, Unavailable
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")

#: Seconds after which an item that nobody claimed is rung for again, and a ring that nobody answered counts as lost;
#: and the longest time between two rings.
FIRST_AGAIN = 2.0
LONGEST_AGAIN = 60.0
#: Seconds for which a ring that brought no claim yet stands for those that would follow it.
UNDER_WAY = 0.05
#: Inputs larger than this are not put on the ring; a worker gets them with its claim.
LARGEST_ON_RING = 256 * 1024


class Rings:
    """Tells a service's topic that there is work.

    A ring may be lost, so the oldest item is rung for again; it may be late or double, which a claim makes harmless.
    None is sent while every connected worker of a service is busy: each of them claims anew when it reports; and no
    more are under way, neither answered by a claim nor old enough to count as lost, than these have free slots. To a
    service that never had a link the message is not a ring but the task itself, whole and not to be lost.
    """

    def __init__(self, kernel: Kernel, links: Links, services: Services) -> None:
        self._kernel = kernel
        self._links = links
        self._services = services
        self._waiting: list[tuple[str, str]] = []
        self._wake = asyncio.Event()
        self._sent_all = asyncio.Event()
        self._sent_all.set()
        self._delays: dict[str, float] = {}
        self.sent = 0
        self.healthy = True
        # When those rings were sent that no claim has answered, by service.
        self._under_way: dict[str, deque[float]] = {}
        kernel.on_ready = self.ring
        kernel.on_claim = self.answered

    def start(self) -> None:
        self._kernel.background.start(self._publish(), "publishing rings")

    async def recover(self, service: str) -> None:
        """Ring for what an earlier run left; a service without a link is sent each of its tasks again."""
        await self._kernel.ready.refresh(service)
        oldest = self._kernel.ready.oldest(service)
        if oldest is not None:
            self.ring(service, names.dated(oldest))
        if self._services.is_linked(service):
            return
        while page := await self._kernel.store.scan(names.ready(service), oldest or ""):
            for document in page:
                self._ask(service, names.dated(document.key))
            oldest = page[-1].key

    def ring(self, service: str, item_id: str) -> None:
        """An item of the service is ready."""
        if self._wanted(service) and self._may_send(service):
            self._ask(service, item_id)
        if not self._kernel.agenda.has("ring", service):
            self._again(service, FIRST_AGAIN)

    def _ask(self, service: str, item_id: str) -> None:
        self._waiting.append((service, item_id))
        self._sent_all.clear()
        self._wake.set()

    def answered(self, service: str) -> None:
        """A worker has claimed, for all that is known because of the oldest ring: the next item needs another one."""
        if under_way := self._under_way.get(service):
            under_way.popleft()

    def _may_send(self, service: str) -> bool:
        """Whether another ring is of use; it counts as sent then.

        The claim that a ring brings takes whatever is ready, and each ring is for another free slot.
        """
        if not self._links.has_links(service):
            return True
        now = asyncio.get_running_loop().time()
        under_way = self._under_way.setdefault(service, deque())
        if under_way and now - under_way[-1] < UNDER_WAY:
            return False
        while under_way and now - under_way[0] >= FIRST_AGAIN:
            under_way.popleft()
        # Other processes on a store that is shared may have free slots, too.
        if under_way and not self._kernel.store.shared and len(under_way) >= self._links.idle_slots(service):
            return False
        under_way.append(now)
        return True

    def _wanted(self, service: str) -> bool:
        if self._links.idle(service) or self._kernel.store.shared:
            return True
        return not self._links.has_links(service) and not self._services.is_linked(service)

    def _again(self, service: str, delay: float) -> None:
        self._kernel.agenda.after(delay, "ring", service, lambda: self._ring_again(service, delay))

    async def _ring_again(self, service: str, delay: float) -> None:
        """Ring for the oldest item while somebody has a free slot; less often each time, until all are claimed."""
        await self._kernel.ready.refresh(service)
        oldest = self._kernel.ready.oldest(service)
        if oldest is None:
            return
        created = names.seconds(oldest)
        is_due = self._links.idle(service) and self._kernel.clock() - created >= FIRST_AGAIN
        if is_due and self._may_send(service):
            self._ask(service, names.dated(oldest))
            delay = min(LONGEST_AGAIN, delay * 2)
        self._again(service, delay)

    async def settled(self) -> None:
        """Wait until every ring that was asked for was sent, or could not be."""
        await self._sent_all.wait()

    async def _publish(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, []
            for service, item_id in waiting:
                await self._send(service, item_id)
            if not self._waiting:
                self._sent_all.set()

    async def _send(self, service: str, item_id: str) -> None:
        queue = self._kernel.queue
        if queue is None:
            return
        topic = f"{self._kernel.config.topic_namespace}.{service}"
        linked = self._services.is_linked(service)
        try:
            message = await self._message(service, item_id, whole=not linked)
            if linked:
                await queue.send(message, topic, transient=True)
            else:
                await self._kernel.publish(message, topic)
            self.sent += 1
            self.healthy = True
        except Unavailable as error:
            self.answered(service)  # this ring stands for no other
            if self.healthy:
                logger.warning("rings wait for the message queue: %s", error)
            self.healthy = False
            if not linked:
                self._kernel.agenda.after(FIRST_AGAIN, "message", item_id, lambda: self._send_again(service, item_id))
        except ArrieroError as error:
            self.answered(service)
            logger.warning("no ring for item %s of %s: %s", item_id, service, error)

    async def _send_again(self, service: str, item_id: str) -> None:
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is not None and item.record.status is TaskStatus.QUEUED:
            self._ask(service, item_id)

    async def _message(self, service: str, item_id: str, *, whole: bool) -> QueueMessage:
        """The ring. One for what cannot be read says nothing; who claims because of it gets what comes next."""
        try:
            data = await self._data(service, item_id, whole=whole)
        except StoreDamaged as damage:
            self._kernel.on_damaged(item_id, damage)
            if whole:
                raise
            data = {}
        return QueueMessage(type=service, action=ActionTypes.NEW_TASK, data=data)

    async def _data(self, service: str, item_id: str, *, whole: bool) -> dict[str, object]:
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        task = await self._kernel.load(records.TASK, names.TASKS, item.record.task_id) if item else None
        if item is None or task is None:
            return {}
        return {
            "input": await self._text(item.record, task.record, whole=whole),
            "task_id": task.record.id,
            "session_id": task.record.session_id,
            "service_id": service,
            "agent_id": service,
        }

    async def _text(self, item: ItemRecord, task: TaskRecord, *, whole: bool) -> str:
        """The input, unless it is too large for a ring."""
        if not whole and (item.apart or (item.input is None and INPUT in task.apart)):
            return ""
        text = await self._kernel.values.input_of(item, task)
        return text if whole or len(text) <= LARGEST_ON_RING else ""


class Outbox:
    """Messages that were decided in a commit and are published after it, each at least once, under a fixed id."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        kernel.on_outbox = self.send

    def send(self, key: str) -> None:
        self._kernel.agenda.after(0.0, "outbox", key, lambda: self._send(key, 1.0))

    async def recover(self) -> None:
        """Send what was kept and not sent before the last stop."""
        after = ""
        while page := await self._kernel.store.scan(names.OUTBOX, after):
            for document in page:
                self.send(document.key)
            after = page[-1].key

    async def _send(self, key: str, delay: float) -> None:
        kept = await self._kernel.load(records.OUTBOX_ENTRY, names.OUTBOX, key)
        if kept is None or self._kernel.queue is None:
            return
        message = QueueMessage.model_validate_json(bytes(kept.record.message))
        try:
            await self._kernel.publish(message, kept.record.topic)
        except ArrieroError as error:
            logger.warning("message %s waits for the message queue: %s", key, error)
            longer = min(LONGEST_AGAIN, delay * 2)
            self._kernel.agenda.after(delay, "outbox", key, lambda: self._send(key, longer))
            return
        change = Change()
        change.delete(names.OUTBOX, key)
        await self._kernel.apply(change, durable=False)
