"""Sessions: made, listed, deleted, and the state they carry."""

from __future__ import annotations

from typing import Any

from arriero.core import names, records
from arriero.core.items import item_ids
from arriero.core.kernel import Change, Kernel
from arriero.core.records import SessionRecord
from arriero.core.tasks import TRIES, Tasks
from arriero.types.errors import StateConflict, UnknownSession
from arriero.types.ids import generate_id, id_from

#: How many tasks of a deleted session are removed in one commit.
BATCH = 100


class Sessions:
    """The use cases around a session."""

    def __init__(self, kernel: Kernel, tasks: Tasks) -> None:
        self._kernel = kernel
        self._tasks = tasks

    async def create(self, session_id: str | None = None, key: str | None = None) -> str:
        """A new session; the same id or idempotency key gives the same one again."""
        if session_id is None:
            session_id = id_from("sessions", key) if key else generate_id()
        names.check_name("session_id", session_id)
        change = Change()
        change.put(names.SESSIONS, session_id, SessionRecord(created_at=self._kernel.clock()), expect=0)
        try:
            await self._kernel.apply(change)
        except StateConflict:
            await self.require(session_id)
        return session_id

    async def require(self, session_id: str) -> None:
        """Raise :class:`UnknownSession` unless it is there."""
        if await self._kernel.store.get(names.SESSIONS, session_id) is None:
            raise UnknownSession(f"there is no session {session_id[:80]!r}; POST /sessions/create makes one")

    async def ids(self) -> list[str]:
        """All sessions."""
        ids: list[str] = []
        after = ""
        while page := await self._kernel.store.scan(names.SESSIONS, after, 1000):
            ids += [document.key for document in page]
            after = page[-1].key
        return ids

    async def state(self, session_id: str) -> dict[str, Any]:
        await self.require(session_id)
        loaded = await self._kernel.load(records.STATE, names.STATES, session_id)
        return loaded.record if loaded else {}

    async def update_state(self, session_id: str, update: dict[str, Any]) -> None:
        """Merge the keys into the state; the others stay."""
        async with self._kernel.turns.take(session_id):
            for _ in range(TRIES):
                await self.require(session_id)
                loaded = await self._kernel.load(records.STATE, names.STATES, session_id)
                change = Change()
                state = {**(loaded.record if loaded else {}), **update}
                change.put(names.STATES, session_id, state, expect=loaded.version if loaded else 0)
                try:
                    await self._kernel.apply(change)
                except StateConflict:
                    continue
                return
        raise StateConflict(f"the state of session {session_id!r} keeps changing; try again")

    async def delete(self, session_id: str) -> None:
        """Remove the session with its tasks; open ones are cancelled first, those that come meanwhile too."""
        ended = 0
        while True:
            ids = await self._tasks.ids_of(session_id)
            for task_id in ids[ended:]:
                await self._tasks.cancel(session_id, task_id, "its session was deleted")
            async with self._kernel.turns.take(session_id):
                if len(await self._tasks.ids_of(session_id)) == len(ids):
                    return await self._remove(session_id, ids)
            ended = len(ids)

    async def _remove(self, session_id: str, ids: list[str]) -> None:
        for start in range(0, len(ids), BATCH):
            change = Change()
            for task_id in ids[start : start + BATCH]:
                await self._forget(change, task_id)
            await self._kernel.apply(change)
        change = Change()
        change.delete(names.SESSIONS, session_id)
        change.delete(names.STATES, session_id)
        change.drop(names.session_log(session_id))
        await self._kernel.apply(change)

    async def _forget(self, change: Change, task_id: str) -> None:
        loaded = await self._kernel.load(records.TASK, names.TASKS, task_id)
        if loaded is None:
            return
        change.expect(names.TASKS, task_id, loaded.version)
        for item_id in item_ids(loaded.record):
            item = await self._kernel.load(records.ITEM, names.ITEMS, item_id)
            if item is not None:
                lane = names.lane(item.record.session_id, item.record.service)
                change.delete(names.LANES, lane)
                change.delete(names.CONTEXTS, lane)
            change.delete(names.ITEMS, item_id)
        change.delete(names.TASKS, task_id)
        change.drop(names.stream_log(task_id))
