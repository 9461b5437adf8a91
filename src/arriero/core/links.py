"""The workers that are connected now: what they hold, and what becomes of it when they go away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from arriero.core import names, records
from arriero.core.items import Items
from arriero.core.kernel import Change, Kernel, decode
from arriero.core.records import ItemRecord, ServiceRecord, WorkerRecord
from arriero.core.returns import Returns
from arriero.core.services import Services
from arriero.core.shapes import Shapes
from arriero.state_stores.base import Document
from arriero.types.errors import Fenced, StoreDamaged
from arriero.types.ids import generate_id
from arriero.types.link import Arrival, Deliver, Hello, Push, Stop, Welcome

logger = logging.getLogger("arriero.core")

#: Why items come back.
GONE = "the connection of its worker was closed, and it did not come back in time"
LEFT = "its worker left"
EXPIRED = "its worker did not renew its lease in time"
UNKNOWN = "its worker came back and did not know of it"


class Link:
    """One connection of a worker.

    ``held`` maps items to claim tokens, ``lost`` those that went with a lease; ``numbers`` counts the events taken of
    each, ``entries`` those of its journal. ``free`` slots wait for a ring: they asked for work, and there was none.
    ``alone`` is the item that runs alone on the worker, ``solo`` the ready key of one that is to, when the
    others have ended; ``claiming`` counts the claims under way. One that ``takes`` is granted items unasked. A
    ``lapsed`` one was not heard of for a lease. ``shape`` is that of the journals which its handler can read.
    """

    __slots__ = (
        "alone",
        "claiming",
        "entries",
        "free",
        "held",
        "id",
        "lapsed",
        "local",
        "lost",
        "numbers",
        "push",
        "renewed_at",
        "service",
        "shape",
        "slots",
        "solo",
        "takes",
        "worker_id",
    )

    def __init__(self, hello: Hello, *, local: bool) -> None:
        self.id = generate_id()
        self.worker_id = hello.worker_id
        self.service = hello.service
        self.shape = hello.shape
        self.slots = hello.slots
        self.free = hello.free
        self.local = local
        self.push: Callable[[Push], None] = _nobody
        self.takes = False
        self.held: dict[str, str] = dict(hello.held)
        self.lost: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.entries: dict[str, int] = {}
        self.alone: str | None = None
        self.solo: str | None = None
        self.claiming = 0
        self.lapsed = False
        self.renewed_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether it would take an item now."""
        waits = self.solo is not None and bool(self.held)
        return self.free > 0 and not self.lapsed and self.alone is None and not waits


class Links:
    """The connected workers, their leases, and the items of those that were lost."""

    def __init__(self, kernel: Kernel, services: Services, items: Items) -> None:
        self._kernel = kernel
        self._services = services
        self.returns = Returns(kernel, items)
        self.kept = Shapes(kernel)
        self._by_worker: dict[str, Link] = {}
        self._by_service: dict[str, dict[Link, None]] = {}
        self.refused = 0
        self.on_fitting: Callable[[Link], None] = _nobody
        self.on_missed: Callable[[Link, str, int], Awaitable[None]] = _no_news
        kernel.on_stop = self.stop_item

    async def attach(self, hello: Hello, push: Callable[[Push], None], *, local: bool) -> tuple[Link, Welcome]:
        """A worker has connected, for the first time or again; what it no longer holds is queued again.

        From the start the link stands for its worker, so that what an older one still does is undone.
        """
        names.check_name("worker_id", hello.worker_id)
        link = Link(hello, local=local)
        self._replace(link)
        try:
            async with self._kernel.turns.take(_turn(link.worker_id)):
                await self._services.register(_service(hello))
                await self._store_worker(link)
                kept = await self.returns.of_worker(link.worker_id, hello.held, lost=False, why=UNKNOWN)
        except BaseException:
            self.detach(link)
            raise
        link.held = {item_id: token for item_id, token in link.held.items() if item_id in kept}
        link.push = push
        link.takes = hello.takes
        if link.shape:
            self._kernel.on_shape(link.service, link.shape)
        if link.held:
            self._start_lease(link)
        for item_id in link.held:
            self._kernel.background.start(self._catch_up(link, item_id), f"events of item {item_id}")
        return link, self._welcome(link, [item_id for item_id in hello.held if item_id not in link.held])

    def detach(self, link: Link) -> None:
        """The connection is gone; its worker has a moment to come back."""
        if self.is_current(link):
            self._forget(link)
            self._expect_back(link.worker_id, self._kernel.config.link_grace)

    async def leave(self, link: Link) -> None:
        """The worker goes on purpose; what it still holds is queued again without counting a loss."""
        if self.is_current(link):
            self.detach(link)
            await self.give_back(link.worker_id, lost=False)

    def is_current(self, link: Link) -> bool:
        """Whether this link, and no newer one, stands for its worker."""
        return self._by_worker.get(link.worker_id) is link

    def renew(self, worker_id: str) -> float:
        """Count the worker's lease from now; gives its length. An unknown worker is :class:`Fenced`.

        Only this process expires leases, and it expires none for one lease after its start, so nothing is stored.
        """
        link = self._by_worker.get(worker_id)
        if link is None:
            raise Fenced(f"worker {worker_id!r} is not connected")
        self._start_lease(link)
        for item_id, token in link.lost.items():
            self._kernel.background.start(self._tell_if_lost(link, item_id, token), f"word of item {item_id}")
        return self._kernel.config.lease

    def heard(self, link: Link) -> None:
        """The worker is there, perhaps again: what waits for one of its shape meanwhile goes on."""
        if link.lapsed:
            link.lapsed = False
            if link.shape:
                self._kernel.on_shape(link.service, link.shape)

    def idle(self, service: str, besides: Link | None = None) -> bool:
        """Whether a connected worker of the service, besides that one, has a slot that an item could take now."""
        return any(link.is_idle for link in self._by_service.get(service, ()) if link is not besides)

    def idle_slots(self, service: str) -> int:
        """How many slots the connected workers of the service have that items could take now."""
        return sum(link.free for link in self._by_service.get(service, ()) if link.is_idle)

    def taker(self, service: str) -> Link | None:
        """The worker with the most idle slots of those that take an item unasked; None when there is none."""
        takers = [link for link in self._by_service.get(service, ()) if link.takes and link.is_idle and not link.solo]
        return max(takers, key=lambda link: link.free, default=None)

    def shapes(self, service: str) -> set[str]:
        """The shapes of the workers of the service that are there."""
        return {link.shape for link in self._by_service.get(service, ()) if not link.lapsed} - {""}

    def leave_to_fitting(self, link: Link, key: str, item: ItemRecord) -> bool:
        """Whether the item is kept for other workers, because its journal fits one of them and not this one."""
        if not item.journaled or not item.shape or link.shape in ("", item.shape):
            return False
        peers = self._by_service.get(link.service, ())
        fitting = [other for other in peers if other.shape == item.shape and not other.lapsed]
        if not fitting:
            return False
        self.kept.keep((link.service, item.shape), key)
        takers = [other for other in fitting if other.takes and other.is_idle and not other.solo]
        if takers:
            self.on_fitting(max(takers, key=lambda other: other.free))
        return True

    def all(self) -> list[Link]:
        """The links of all workers that are connected."""
        return list(self._by_worker.values())

    def has_links(self, service: str) -> bool:
        """Whether any worker of the service is connected."""
        return service in self._by_service

    def take(self, link: Link, item_id: str, token: str) -> None:
        """The link holds the item from now on; while it holds any, its lease runs."""
        if not link.held:
            self._start_lease(link)
        link.held[item_id] = token
        link.numbers[item_id] = 0

    def let_go(self, link: Link, item_id: str, token: str) -> bool:
        """The link holds the item under this token no more; gives whether it did."""
        if link.lost.get(item_id) == token:
            del link.lost[item_id]
        if link.held.get(item_id) != token:
            return False
        del link.held[item_id]
        link.numbers.pop(item_id, None)
        link.entries.pop(item_id, None)
        if link.alone == item_id:
            link.alone = None
        return True

    def stop_item(self, item: ItemRecord, reason: str) -> None:
        """Tell whoever works on the item to stop."""
        link = self._by_worker.get(item.worker_id)
        if link is not None and self.let_go(link, item.id, item.token):
            link.push(Stop(item_id=item.id, token=item.token, reason=reason))

    def deliver(self, item: ItemRecord, arrivals: list[Arrival]) -> None:
        """Give events to the worker that has the item now; nobody else needs them before the next claim."""
        link = self._by_worker.get(item.worker_id)
        if link is not None and link.held.get(item.id) == item.token:
            link.push(Deliver(item_id=item.id, token=item.token, arrivals=arrivals))

    async def _catch_up(self, link: Link, item_id: str) -> None:
        await self.on_missed(link, item_id, 0)

    def stop_local(self) -> None:
        """Workers in this process end with it: what they hold is queued again at the next start."""
        for link in list(self._by_worker.values()):
            if link.local:
                for item_id, token in link.held.items():
                    link.push(Stop(item_id=item_id, token=token, reason="control plane stopped"))
                link.held.clear()

    async def recover(self) -> None:
        """After a start: workers have one lease to come back with what they held."""
        after = ""
        while page := await self._kernel.store.scan(names.WORKERS, after):
            for document in page:
                self._expect_back(document.key, 0.0 if _is_local(document) else self._kernel.config.lease)
            after = page[-1].key

    async def give_back(self, worker_id: str, *, lost: bool) -> None:
        """Queue again whatever the worker holds, unless it has come back."""
        async with self._kernel.turns.take(_turn(worker_id)):
            if worker_id in self._by_worker:
                return
            await self.returns.of_worker(worker_id, keep={}, lost=lost, why=GONE if lost else LEFT)
            change = Change()
            change.delete(names.WORKERS, worker_id)
            await self._kernel.apply(change, durable=False)
            self._kernel.agenda.drop("grace", worker_id)

    async def expire(self, worker_id: str) -> None:
        """The worker did not renew in time: its items go to others; it is told when it speaks again."""
        link = self._by_worker.get(worker_id)
        if link is None:
            return
        link.lapsed = True
        self._yield_solo(link)
        self._give_up_kept(link)
        for item_id, token in list(link.held.items()):
            await self.returns.of_token(item_id, token, lost=True, why=EXPIRED)
            if self.let_go(link, item_id, token):
                link.lost[item_id] = token

    async def _tell_if_lost(self, link: Link, item_id: str, token: str) -> None:
        """A token that went with a lease stays good until somebody else claims the item."""
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is None or item.record.ended or item.record.token != token:
            link.lost.pop(item_id, None)
            link.push(Stop(item_id=item_id, token=token, reason="fenced"))

    def _welcome(self, link: Link, stale: list[str]) -> Welcome:
        config = self._kernel.config
        return Welcome(
            link_id=link.id,
            lease=config.lease,
            renew_every=config.renew_every,
            topic_namespace=config.topic_namespace,
            max_event=config.max_event,
            stop=stale,
        )

    async def _store_worker(self, link: Link) -> None:
        change = Change()
        worker = WorkerRecord(
            id=link.worker_id,
            service=link.service,
            link_id=link.id,
            renewed_at=self._kernel.clock(),
            local=link.local,
        )
        change.put(names.WORKERS, link.worker_id, worker)
        await self._kernel.apply(change)

    def _replace(self, link: Link) -> None:
        old = self._by_worker.get(link.worker_id)
        if old is not None:
            self._forget(old)
        self._by_worker[link.worker_id] = link
        self._by_service.setdefault(link.service, {})[link] = None
        self._kernel.agenda.drop("grace", link.worker_id)

    def _forget(self, link: Link) -> None:
        del self._by_worker[link.worker_id]
        peers = self._by_service[link.service]
        peers.pop(link, None)
        if not peers:
            del self._by_service[link.service]
        self._kernel.agenda.drop("lease", link.worker_id)
        self._yield_solo(link)
        self._give_up_kept(link)

    def _give_up_kept(self, link: Link) -> None:
        """What was kept for workers of its shape may go to others, if it was the last one."""
        if link.shape and link.shape not in self.shapes(link.service):
            self.kept.give_up((link.service, link.shape))

    def _yield_solo(self, link: Link) -> None:
        """What was to run alone here may run alone elsewhere."""
        key, link.solo = link.solo, None
        if key is not None:
            self._kernel.ready.add(link.service, key)
            self._kernel.on_ready(link.service, names.dated(key))

    def _expect_back(self, worker_id: str, within: float) -> None:
        if not self._kernel.agenda.has("grace", worker_id) and worker_id not in self._by_worker:
            self._kernel.agenda.after(within, "grace", worker_id, lambda: self.give_back(worker_id, lost=True))

    def _start_lease(self, link: Link) -> None:
        """Count the lease from now. One timer looks at it, however often it is renewed."""
        self.heard(link)
        link.renewed_at = asyncio.get_running_loop().time()
        if not link.local and not self._kernel.agenda.has("lease", link.worker_id):
            self._look_at_lease(link, self._kernel.config.lease)

    def _look_at_lease(self, link: Link, after: float) -> None:
        due = asyncio.get_running_loop().time() + after
        self._kernel.agenda.after(after, "lease", link.worker_id, lambda: self._lease_over(link, due))

    async def _lease_over(self, link: Link, due: float) -> None:
        """Nothing runs out for a worker that holds nothing: its next claim begins a new lease.

        When this comes late, the control plane itself stood still and may not have heard of a renewal.
        """
        if not link.held or not self.is_current(link):
            return
        lease = self._kernel.config.lease
        now = asyncio.get_running_loop().time()
        if now - due > lease / 4:
            link.renewed_at = now
        left = link.renewed_at + lease - now
        if left > 0:
            self._look_at_lease(link, left)
        else:
            await self.expire(link.worker_id)


def _is_local(document: Document) -> bool:
    try:
        return decode(records.WORKER, document.value, f"worker {document.key}").local
    except StoreDamaged:
        logger.exception("worker %s is given a lease to come back", document.key)
        return False


def _turn(worker_id: str) -> str:
    """The turn of a worker; no session has such an id, for the slash."""
    return f"worker/{worker_id}"


def _nobody(_: object) -> None:
    """Stands for a worker that has not been welcomed yet, or a listener that is not there."""


async def _no_news(link: Link, item_id: str, seen: int) -> None:
    """Stands for a listener that is not there."""


def _service(hello: Hello) -> ServiceRecord:
    return ServiceRecord(
        name=hello.service,
        description=hello.description,
        host=hello.host,
        port=hello.port,
        parallel=hello.parallel,
        linked=True,
        max_queue=hello.max_queue,
        accepts=hello.accepts,
        shape=hello.shape,
    )
