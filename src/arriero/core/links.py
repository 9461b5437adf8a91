"""The workers that are connected now: what they hold, and what becomes of it when they go away."""

from __future__ import annotations

from collections.abc import Callable

from arriero.core import names, records
from arriero.core.decisions import Verdict
from arriero.core.items import Items
from arriero.core.kernel import Change, Kernel
from arriero.core.records import ItemRecord, Loaded, ServiceRecord, WorkerRecord
from arriero.core.services import Services
from arriero.types.errors import ErrorInfo, Fenced, StateConflict
from arriero.types.ids import generate_id
from arriero.types.link import Hello, Stop, Welcome
from arriero.types.tasks import TaskStatus


class Link:
    """One connection of a worker. ``held`` maps items to claim tokens; ``numbers`` counts the events taken of each."""

    __slots__ = ("free", "held", "id", "local", "numbers", "service", "stop", "worker_id")

    def __init__(self, hello: Hello, stop: Callable[[Stop], None], local: bool) -> None:
        self.id = generate_id()
        self.worker_id = hello.worker_id
        self.service = hello.service
        self.free = hello.free
        self.local = local
        self.stop = stop
        self.held: dict[str, str] = {}
        self.numbers: dict[str, int] = {}


class Links:
    """The connected workers, their leases, and the items of those that were lost."""

    def __init__(self, kernel: Kernel, services: Services, items: Items) -> None:
        self._kernel = kernel
        self._services = services
        self._items = items
        self._by_worker: dict[str, Link] = {}
        self._by_service: dict[str, set[Link]] = {}
        self.refused = 0
        kernel.on_stop = self.stop_item

    async def attach(self, hello: Hello, stop: Callable[[Stop], None], *, local: bool) -> tuple[Link, Welcome]:
        """A worker has connected, for the first time or again; what it no longer holds is queued again."""
        names.check_name("worker_id", hello.worker_id)
        link = Link(hello, stop, local)
        await self._services.register(_service(hello))
        await self._store_worker(link)
        stale = await self._reconcile(link, hello.held)
        self._replace(link)
        config = self._kernel.config
        welcome = Welcome(
            link_id=link.id,
            lease=config.lease,
            renew_every=config.renew_every,
            topic_namespace=config.topic_namespace,
            stop=stale,
        )
        return link, welcome

    def detach(self, link: Link) -> None:
        """The connection is gone; its worker has a moment to come back."""
        if self._by_worker.get(link.worker_id) is not link:
            return
        self._forget(link)
        self._kernel.agenda.after(
            self._kernel.config.link_grace, "grace", link.worker_id, lambda: self.give_back(link.worker_id, lost=True)
        )

    async def leave(self, link: Link) -> None:
        """The worker goes on purpose; what it still holds is queued again without counting a loss."""
        if self._by_worker.get(link.worker_id) is link:
            self._forget(link)
            await self.give_back(link.worker_id, lost=False)

    def renew(self, worker_id: str) -> float:
        """Count the worker's lease from now; gives its length. An unknown worker is :class:`Fenced`.

        Only this process expires leases, and it expires none for one lease after its start, so nothing is stored.
        """
        link = self._by_worker.get(worker_id)
        if link is None:
            raise Fenced(f"worker {worker_id!r} is not connected")
        self._start_lease(link)
        return self._kernel.config.lease

    def idle(self, service: str) -> bool:
        """Whether a connected worker of the service has a free slot."""
        return any(link.free > 0 for link in self._by_service.get(service, ()))

    def has_links(self, service: str) -> bool:
        """Whether any worker of the service is connected."""
        return service in self._by_service

    def stop_item(self, item: ItemRecord, reason: str) -> None:
        """Tell whoever works on the item to stop."""
        link = self._by_worker.get(item.worker_id)
        if link is not None and link.held.pop(item.id, None) is not None:
            link.numbers.pop(item.id, None)
            link.stop(Stop(item_id=item.id, token=item.token, reason=reason))

    def stop_local(self) -> None:
        """Workers in this process end with it: what they hold is queued again at the next start."""
        for link in list(self._by_worker.values()):
            if link.local:
                for item_id, token in link.held.items():
                    link.stop(Stop(item_id=item_id, token=token, reason="control plane stopped"))
                link.held.clear()

    async def recover(self) -> None:
        """After a start: workers have one lease to come back with what they held."""
        after = ""
        while page := await self._kernel.store.scan(names.WORKERS, after):
            for document in page:
                worker = await self._kernel.load(records.WORKER, names.WORKERS, document.key)
                if worker is not None:
                    self._expect_back(worker.record)
            after = page[-1].key

    def _expect_back(self, worker: WorkerRecord) -> None:
        delay = 0.0 if worker.local else self._kernel.config.lease
        if not self._kernel.agenda.has("grace", worker.id) and worker.id not in self._by_worker:
            self._kernel.agenda.after(delay, "grace", worker.id, lambda: self.give_back(worker.id, lost=True))

    async def give_back(self, worker_id: str, *, lost: bool) -> None:
        """Queue again whatever the worker holds, unless it has come back."""
        if lost and worker_id in self._by_worker:
            return
        await self._requeue_all(worker_id, keep={}, lost=lost)
        change = Change()
        change.delete(names.WORKERS, worker_id)
        await self._kernel.apply(change, durable=False)

    async def expire(self, worker_id: str) -> None:
        """The worker did not renew in time: its items go to others; it is told when it speaks again."""
        link = self._by_worker.get(worker_id)
        if link is not None:
            link.held.clear()
            link.numbers.clear()
            link.free = 0
        await self._requeue_all(worker_id, keep={}, lost=True)

    async def _reconcile(self, link: Link, claimed: dict[str, str]) -> list[str]:
        """Keep what both sides agree on, queue the rest again; gives the items that the worker must stop."""
        kept = await self._requeue_all(link.worker_id, keep=claimed, lost=False)
        link.held.update(kept)
        return [item_id for item_id in claimed if item_id not in kept]

    async def _requeue_all(self, worker_id: str, keep: dict[str, str], *, lost: bool) -> dict[str, str]:
        kept: dict[str, str] = {}
        after = ""
        while page := await self._kernel.store.scan(names.held(worker_id), after):
            for document in page:
                item = await self._kernel.load(records.ITEM, names.ITEMS, document.key)
                if item is not None and keep.get(item.record.id) == item.record.token:
                    kept[item.record.id] = item.record.token
                elif item is not None:
                    await self.give_back_item(item.record, lost=lost)
            after = page[-1].key
        return kept

    async def give_back_item(self, seen: ItemRecord, *, lost: bool) -> None:
        """Queue one item again, or declare it dead after too many losses. Another change of it wins."""
        async with self._kernel.turns.take(seen.session_id):
            item = await self._kernel.load(records.ITEM, names.ITEMS, seen.id)
            if item is None or item.record.status is not TaskStatus.RUNNING or item.record.token != seen.token:
                return
            item.record.losses += 1 if lost else 0
            change = Change()
            try:
                if item.record.losses >= self._kernel.config.max_losses:
                    await self._bury(change, item)
                else:
                    self._items.requeue(change, item)
                await self._kernel.apply(change)
            except StateConflict:
                return

    async def _bury(self, change: Change, item: Loaded[ItemRecord]) -> None:
        task = await self._kernel.load(records.TASK, names.TASKS, item.record.task_id)
        if task is None:
            return
        limit = self._kernel.config.max_losses
        error = ErrorInfo(
            code="task_dead",
            type="TaskDead",
            message=f"{item.record.losses} workers of service {item.record.service!r} were lost while they ran it; "
            f"the limit is {limit} (setting max_losses)",
            details={"losses": item.record.losses, "limit": limit, "setting": "max_losses"},
        )
        await self._items.end(change, task, item, Verdict(TaskStatus.DEAD, error=error))

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
        self._by_service.setdefault(link.service, set()).add(link)
        self._kernel.agenda.drop("grace", link.worker_id)
        self._start_lease(link)

    def _forget(self, link: Link) -> None:
        del self._by_worker[link.worker_id]
        peers = self._by_service[link.service]
        peers.discard(link)
        if not peers:
            del self._by_service[link.service]
        self._kernel.agenda.drop("lease", link.worker_id)

    def _start_lease(self, link: Link) -> None:
        if not link.local:
            self._kernel.agenda.after(
                self._kernel.config.lease, "lease", link.worker_id, lambda: self.expire(link.worker_id)
            )


def _service(hello: Hello) -> ServiceRecord:
    return ServiceRecord(
        name=hello.service,
        description=hello.description,
        host=hello.host,
        port=hello.port,
        parallel=hello.parallel,
        linked=True,
    )
