"""The control plane without its HTTP face: the use cases, put together, and their life."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from arriero.core import names, records
from arriero.core.changed import Changed
from arriero.core.children import Children
from arriero.core.claims import Claims
from arriero.core.copies import Copies
from arriero.core.damage import Damage
from arriero.core.dead import Dead
from arriero.core.deciding import Deciding
from arriero.core.doubts import Doubts
from arriero.core.history import History
from arriero.core.holds import Holds
from arriero.core.inbox import Inbox
from arriero.core.items import Items
from arriero.core.journal import Journals
from arriero.core.kernel import Change, Kernel
from arriero.core.links import Links
from arriero.core.listing import Listing
from arriero.core.mending import Mending
from arriero.core.messages import Messages
from arriero.core.offers import Offers
from arriero.core.outlook import WORKER, open_children
from arriero.core.records import TaskRecord, item_ids
from arriero.core.retention import Retention
from arriero.core.rings import Outbox, Rings
from arriero.core.services import Services
from arriero.core.sessions import Sessions
from arriero.core.streams import Streams
from arriero.core.tasks import Tasks
from arriero.message_queues.base import MessageQueue
from arriero.orchestrators.base import BaseOrchestrator
from arriero.state_stores.base import StateStore
from arriero.types.errors import ArrieroError
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")

#: How many items of a task are looked at for one that has no worker.
LOOKED_AT = 50

#: How many bytes there must be room for after a commit that failed: more than an ordinary task takes.
PROBE = 65_536


class Core:
    """The use cases: ``sessions``, ``services``, ``tasks``, ``streams``, ``links``, ``claims``, ``children``,
    ``inbox``, ``messages``, ``changed``, ``copies``, ``dead``; and ``listing`` and ``history``, which show what there
    is and was.

    It does not own the store and the queue it is given; whoever made them closes them, after it.
    """

    def __init__(
        self,
        store: StateStore,
        queue: MessageQueue | None,
        orchestrator: BaseOrchestrator,
        config: ControlPlaneConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.kernel = Kernel(store, queue, orchestrator, config, clock)
        self.services = Services(self.kernel)
        self.items = Items(self.kernel, self.services)
        self.tasks = Tasks(self.kernel, self.services, self.items)
        self.streams = Streams(self.kernel)
        self.links = Links(self.kernel, self.services, self.items)
        self.offers = Offers(self.kernel, self.links)
        self.holds = Holds(self.kernel, self.links)
        self.claims = Claims(self.kernel, self.links, self.items, self.holds)
        self.journals = Journals(self.kernel, self.links, self.holds)
        self.children = Children(self.kernel, self.services, self.items)
        self.deciding = Deciding(self.kernel, self.items, self.tasks)
        self.sessions = Sessions(self.kernel, self.tasks, self.children)
        self.listing = Listing(self.kernel, self.sessions, self.tasks)
        self.inbox = Inbox(self.kernel, self.services, self.links, self.tasks)
        self.messages = Messages(self.kernel, self.sessions, self.tasks, self.items)
        self.rings = Rings(self.kernel, self.links, self.services)
        self.outbox = Outbox(self.kernel)
        self.retention = Retention(self.kernel, self.children)
        self.history = History(self.kernel)
        self.changed = Changed(self.kernel, self.services)
        self.copies = Copies(self.kernel, self.services, self.links, self.tasks)
        self.dead = Dead(self.kernel, self.tasks, self.copies)
        self.damage = Damage(self.kernel, self.tasks)
        self.doubts = Doubts(self.kernel, self.links, self.inbox)
        self.kernel.on_stock = self._take_stock
        self.started = False

    async def start(self) -> Self:
        """Take up what an earlier run left: services, deadlines, retries, workers, ready items."""
        await self.services.load()
        self.rings.start()
        await self.links.recover()
        await self._take_stock()
        if self.kernel.store.damages:
            await Mending(self.kernel).all()
            await self.links.recover()
            await self._take_stock()
        self.retention.start()
        self.started = True
        return self

    async def aclose(self) -> None:
        """Stop everything that runs by itself; what is stored goes on after the next start."""
        self.started = False
        self.links.stop_local()
        self.kernel.agenda.clear()
        await self.kernel.background.aclose()

    async def _take_stock(self) -> None:
        """Read what is queued, due, and to be sent or ended."""
        await self.kernel.backlog.recover(self.services.list())
        await self._recover_timers()
        for service in self.services.list():
            await self.rings.recover(service)
        await self.outbox.recover()
        await self.children.recover()
        await self.deciding.recover()

    async def _recover_timers(self) -> None:
        after = ""
        while page := await self.kernel.store.scan(names.TIMERS, after, 1000):
            for document in page:
                if not document.damaged:  # such a one is put back beside it
                    self._set_timer(document.key)
            after = page[-1].key

    def _set_timer(self, key: str) -> None:
        _, kind, name = key.split("/", 2)
        delay = names.seconds(key) - self.kernel.clock()
        actions = {"deadline": self.tasks.expire, "retry": self.claims.retry, "wake": self.journals.wake}
        action = actions[kind]
        self.kernel.agenda.after(delay, kind, name, lambda: action(name))

    async def show(self, session_id: str | None, task_id: str, *, with_input: bool = True) -> TaskRecord:
        """The task with its input, unless that is not wanted, its status as of its items, and all that it waits for."""
        task = await self.tasks.show(session_id, task_id, with_input=with_input)
        service = await self._unserved(task)
        if service is not None:
            task.waits_for.append({WORKER: service})
        return task

    async def _unserved(self, task: TaskRecord) -> str | None:
        """The service that a task needs, itself or for a child, and no worker of which is connected."""
        if self.kernel.store.shared or task.ended:
            return None  # workers may be connected to another process
        left = item_ids(task)
        for _ in range(LOOKED_AT):
            item = await self.kernel.load(records.ITEM, names.ITEMS, left.pop()) if left else None
            if item is None or item.record.ended:
                continue
            if item.record.status is TaskStatus.QUEUED and not self.links.has_links(item.record.service):
                return item.record.service
            left += [child.id for child in await open_children(self.kernel, item.record, LOOKED_AT)]
        return None

    async def check(self) -> dict[str, str]:
        """What keeps it from accepting tasks, by part; empty when it is ready. Raises nothing."""
        problems: dict[str, str] = {}
        if not self.started:
            problems["core"] = "starting or stopping"
        try:
            await self.kernel.store.get(names.SERVICES, "ready")
            if self.kernel.unwritten:
                await self._try_to_write()
        except ArrieroError as error:
            problems["store"] = str(error)
        if not self.rings.healthy:
            problems["message_queue"] = "does not take messages"
        return problems

    async def _try_to_write(self) -> None:
        """Nobody may send anything to a core that is not ready, so it finds out by itself."""
        change = Change()
        change.put(names.PROBES, "ready", " " * PROBE)
        await self.kernel.apply(change)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
