"""Decisions that take their time: marked in the store, and made beside everything else until they stand."""

from __future__ import annotations

import asyncio
import logging

from arriero.core import names, records
from arriero.core.decisions import Asking, Decision, Verdict
from arriero.core.items import Items, failure
from arriero.core.kernel import Change, Kernel
from arriero.core.records import Loaded, Start, TaskRecord
from arriero.core.tasks import TRIES, Tasks
from arriero.types.errors import ArrieroError, StateConflict, StoreDamaged, Unavailable
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")

PAGE = 1000
#: Seconds until a decision is tried again that the store did not take.
AGAIN = 0.5
#: Seconds after which an orchestrator that has not decided is named in the log.
LONG = 10.0


class Deciding:
    """One decision after another for each task that has some to come, in the order in which its items ended.

    Whoever is asked for one holds up nobody: not the session, nor the end of the task from outside. After a restart it
    is asked again.
    """

    def __init__(self, kernel: Kernel, items: Items, tasks: Tasks) -> None:
        self._kernel = kernel
        self._items = items
        self._tasks = tasks
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._noted: set[str] = set()
        kernel.on_undecided = self.go_on
        kernel.on_overtaken = self.stop

    async def recover(self) -> None:
        """Go on with all that are marked."""
        after = ""
        while page := await self._kernel.store.scan(names.DECISIONS, after, PAGE):
            for document in page:
                self.go_on(document.key)
            after = page[-1].key

    def go_on(self, task_id: str, asking: Asking | None = None) -> None:
        """Decide what there is to decide for the task, unless that is being done; ``asking`` is its first decision."""
        if task_id in self._under_way:
            self._noted.add(task_id)  # what is under way may have looked for the last time
            if asking is not None:
                asking.end()
            return
        work = self._kernel.background.start(self._decide_all(task_id, asking), f"decisions for task {task_id}")
        self._under_way[task_id] = work
        work.add_done_callback(lambda work: self._ended(work, task_id, asking))

    def _ended(self, work: asyncio.Task[None], task_id: str, asking: Asking | None) -> None:
        del self._under_way[task_id]
        if asking is not None:
            asking.end()  # it may have been cancelled before it began
        if task_id in self._noted:
            self._noted.remove(task_id)
            if not work.cancelled():
                self.go_on(task_id)

    def stop(self, task_id: str) -> None:
        """The task has ended, and not by what is done here."""
        work = self._under_way.get(task_id)
        if work is not None and work is not asyncio.current_task():
            work.cancel()

    async def _decide_all(self, task_id: str, asking: Asking | None) -> None:
        while True:
            try:
                task = await self._undecided(task_id)
                if task is None:
                    return
                await self._decide(task, asking)
            except (Unavailable, StateConflict) as error:
                logger.warning("the decision for task %s is tried again: %s", task_id, error)
                await asyncio.sleep(AGAIN)  # the store does not say when it can be written
            asking = None

    async def _decide(self, task: Loaded[TaskRecord], asking: Asking | None) -> None:
        try:
            await self._decide_next(task, asking)
        except (Unavailable, StateConflict):
            raise
        except ArrieroError as error:  # what was decided cannot be done
            verdict = Verdict(TaskStatus.FAILED, error=error.info())
            await self._tasks.end_outside(task.record.session_id, task.record.id, verdict)

    async def _decide_next(self, seen: Loaded[TaskRecord], asking: Asking | None) -> None:
        task_id, item_id = seen.record.id, seen.record.undecided[0]
        asking = asking or self._items.decider.ask(seen.record, await self._verdict(item_id))
        decision = await self._answer(task_id, asking)
        async with self._kernel.turns.take(seen.record.session_id):
            for _ in range(TRIES):
                task = await self._undecided(task_id)
                if task is None or task.record.undecided[0] != item_id:
                    return
                if await self._items.decider.is_outdated(task.record, decision):
                    return
                change = Change()
                await self._items.decided(change, task, decision, await self._start(task_id, item_id))
                try:
                    await self._kernel.apply(change)
                except StateConflict:
                    continue
                return

    async def _undecided(self, task_id: str) -> Loaded[TaskRecord] | None:
        task = await self._kernel.load(records.TASK, names.TASKS, task_id)
        return task if task is not None and not task.record.ended and task.record.undecided else None

    async def _verdict(self, item_id: str) -> Verdict | None:
        """How the item ended; None at the beginning."""
        if not item_id:
            return None
        item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
        if item is None:
            raise StoreDamaged(f"item {item_id} is missing")
        return Verdict(item.record.status, item.record.value, item.record.error)

    async def _answer(self, task_id: str, asking: Asking) -> Decision:
        orchestrator = type(self._kernel.orchestrator).__name__
        try:
            decision = await asking.answer(LONG)
            if decision is None:
                logger.warning("orchestrator %s has not decided on task %s for %g s", orchestrator, task_id, LONG)
                decision = await asking.answer()
        except asyncio.CancelledError:
            await asking.ended()
            raise
        except Unavailable:
            raise
        except ArrieroError as error:
            return failure(error)
        assert decision is not None  # it was waited for without a limit
        return decision

    async def _start(self, task_id: str, item_id: str) -> Start | None:
        """What the first item begins with."""
        if item_id:
            return None
        start = await self._kernel.load(records.START, names.DECISIONS, task_id)
        return start.record if start is not None else None
