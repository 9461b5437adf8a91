"""New tasks out of old ones: with the same input, or from behind a step that the old one had finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from arriero.core import names, records
from arriero.core.kernel import Change, Kernel
from arriero.core.limits import check_size
from arriero.core.links import Links
from arriero.core.records import ItemRecord, Start, TaskRecord
from arriero.core.services import Services
from arriero.core.steps import cut
from arriero.core.tasks import Submission, Tasks
from arriero.core.values import INPUT
from arriero.types.errors import Conflict, NotEnded, WorkflowChanged

PAGE = 1000
#: The most bytes of a journal that are copied.
LARGEST_COPY = 32 * 1024 * 1024


class Copies:
    """Replays and forks tasks. The new task has the input, deadline and headers of the old one, and names it."""

    def __init__(self, kernel: Kernel, services: Services, links: Links, tasks: Tasks) -> None:
        self._kernel = kernel
        self._services = services
        self._links = links
        self._tasks = tasks

    async def replay(
        self,
        old: TaskRecord,
        session_id: str | None = None,
        task_id: str | None = None,
        then: Callable[[Change], None] | None = None,
    ) -> TaskRecord:
        """Begin the task anew; ``then`` adds to the commit. Errors: ``NotEnded``, and those of a submission."""
        record = await self._copy(old, session_id, task_id)
        record.replay_of = old.id
        record.fingerprint += f"/{old.id}"
        return await self._tasks.accept(record, then=then)

    async def fork(
        self, old: TaskRecord, after_step: int | str, session_id: str | None = None, task_id: str | None = None
    ) -> TaskRecord:
        """Begin a task behind a finished step of an ended one; what ran up to there runs no more.

        Errors: ``NotEnded``; ``Conflict`` without a journal; ``NotFound`` when no such step has finished;
        ``WorkflowChanged`` when the workers that are there serve a workflow of other steps; those of a submission.
        """
        record = await self._copy(old, session_id, task_id)
        item = await self._first(old)
        past = await asyncio.to_thread(cut, await self._journal(item), after_step)  # others go on meanwhile
        self._check_shape(item)
        record.forked_from, record.forked_after = old.id, past.number
        record.fingerprint += f"/{old.id}/{past.number}"
        return await self._tasks.accept(record, start=Start(item.service, item.shape, past.entries, past.base))

    async def _copy(self, old: TaskRecord, session_id: str | None, task_id: str | None) -> TaskRecord:
        if not old.ended:
            raise NotEnded(f"task {old.id!r} has not ended ({old.status.value}); wait for its end, or cancel it")
        await self._kernel.values.fill(old, INPUT)
        submission = Submission(
            input=old.input,
            task_id=task_id,
            service_id=old.service,
            deadline=old.deadline,
            headers=old.headers,
        )
        return self._tasks.new_record(session_id or old.session_id, submission)

    async def _first(self, old: TaskRecord) -> ItemRecord:
        item = await self._kernel.load(records.ITEM, names.ITEMS, old.id)
        if item is None or not item.record.journaled:
            raise Conflict(
                f"task {old.id!r} has no journal: its service is no workflow with durability='journal', or no step of "
                "it had finished before the last one; replay it instead"
            )
        return item.record

    async def _journal(self, item: ItemRecord) -> list[bytes]:
        found: list[bytes] = []
        size = after = 0
        while page := await self._kernel.store.read_log(names.journal_log(item.id), after, PAGE):
            found += [entry.value for entry in page]
            size += sum(len(entry.value) for entry in page)
            check_size(size, LARGEST_COPY, "the journal")
            after = page[-1].seq
        return found

    def _check_shape(self, item: ItemRecord) -> None:
        """With nobody there to ask, the last one who was there counts."""
        known = self._links.shapes(item.service) or {self._services.require(item.service).shape} - {""}
        if known and item.shape not in known:
            raise WorkflowChanged(
                f"the steps of service {item.service!r} take or give other events than when task {item.task_id!r} ran, "
                "so its journal does not fit; replay it instead"
            )
