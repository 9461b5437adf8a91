"""Sessions: made, listed, deleted, and the state they carry."""

from __future__ import annotations

from typing import Any

from arriero.core import names, records
from arriero.core.children import Children
from arriero.core.kernel import Change, Kernel
from arriero.core.limits import check_size
from arriero.core.records import SessionRecord
from arriero.core.removal import Removal
from arriero.core.tasks import MAX_INPUT, TRIES, Tasks
from arriero.types.errors import StateConflict, UnknownSession
from arriero.types.ids import generate_id, id_from

#: How many tasks of a deleted session are removed in one commit.
BATCH = 100


class Sessions:
    """The use cases around a session."""

    def __init__(self, kernel: Kernel, tasks: Tasks, children: Children) -> None:
        self._kernel = kernel
        self._tasks = tasks
        self._removal = Removal(kernel)
        self._children = children

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

    async def state(self, session_id: str) -> dict[str, Any]:
        await self.require(session_id)
        return await self.kept_state(session_id)

    async def kept_state(self, session_id: str) -> dict[str, Any]:
        """The state of a session that is there."""
        loaded = await self._kernel.load(records.STATE, names.STATES, session_id)
        return loaded.record if loaded else {}

    async def update_state(self, session_id: str, update: dict[str, Any]) -> None:
        """Merge the keys into the state; the others stay."""
        most = self._kernel.config.max_input
        async with self._kernel.turns.take(session_id):
            for _ in range(TRIES):
                await self.require(session_id)
                loaded = await self._kernel.load(records.STATE, names.STATES, session_id)
                change = Change()
                state = {**(loaded.record if loaded else {}), **update}
                check_size(len(records.encode(state)), most, "the state of a session", MAX_INPUT)
                change.put(names.STATES, session_id, state, expect=loaded.version if loaded else 0)
                try:
                    await self._kernel.apply(change)
                except StateConflict:
                    continue
                return
        raise StateConflict(f"the state of session {session_id!r} keeps changing; try again")

    async def delete(self, session_id: str) -> None:
        """Remove the session with its tasks; open ones are cancelled first, those that come meanwhile too."""
        await self.require(session_id)
        while True:
            await self._cancel_all(session_id)
            async with self._kernel.turns.take(session_id):
                if await self._remove(session_id):
                    return

    async def _cancel_all(self, session_id: str) -> None:
        after = ""
        while page := await self._kernel.store.scan(names.tasks_of(session_id), after, BATCH):
            for document in page:
                task_id = names.dated(document.key)
                await self._tasks.cancel(session_id, task_id, "its session was deleted")
                await self._children.settle(task_id)
            after = page[-1].key

    async def _remove(self, session_id: str) -> bool:
        """Whether all of it is gone; an open task stops that."""
        while page := await self._kernel.store.scan(names.tasks_of(session_id), limit=BATCH):
            change = Change()
            for document in page:
                if not await self._removal.put(change, session_id, document.key):
                    return False
            await self._kernel.apply(change)
        change = Change()
        for collection in (names.LANES, names.CONTEXTS):
            for key in await self._removal.keys_under(collection, names.lane(session_id, "")):
                change.delete(collection, key)
        change.delete(names.SESSIONS, session_id)
        change.delete(names.STATES, session_id)
        await self._kernel.apply(change)
        return True
