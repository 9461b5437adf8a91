"""Lists of sessions and tasks, a bounded page at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from arriero.core import names
from arriero.core.kernel import Kernel
from arriero.core.records import TaskRecord
from arriero.core.sessions import Sessions
from arriero.core.tasks import Tasks

#: The most that one answer lists when nothing less is asked for.
MOST = 10_000
#: The most tasks that one answer names over all of its sessions; further sessions are left to the next one.
MOST_NAMED = 100_000
#: Characters of input after which the rest of a list of tasks is left to the next answer.
MOST_TEXT = 16 * 1024 * 1024
#: How many sessions or tasks are read together.
TOGETHER = 100


class SessionView(msgspec.Struct):
    """The documented ``SessionDefinition``."""

    session_id: str
    task_ids: list[str]
    state: dict[str, Any]


class Listing:
    """What there is. A page comes with the cursor to go on behind it, None at the end."""

    def __init__(self, kernel: Kernel, sessions: Sessions, tasks: Tasks) -> None:
        self._store = kernel.store
        self._sessions = sessions
        self._tasks = tasks

    async def sessions(self, after: str, limit: int) -> tuple[list[SessionView], str | None]:
        """Sessions in the order of their ids, each with its newest tasks and its state."""
        views: list[SessionView] = []
        named = 0
        while page := await self._store.scan(names.SESSIONS, after, min(TOGETHER, limit - len(views))):
            found = await asyncio.gather(*(self._view(document.key) for document in page))
            views += found
            named += sum(len(view.task_ids) for view in found)
            after = page[-1].key
            if len(views) >= limit or named >= MOST_NAMED:
                more = await self._store.scan(names.SESSIONS, after, 1)
                return views, after if more else None
        return views, None

    async def session(self, session_id: str) -> SessionView:
        """One session. Errors: ``UnknownSession``."""
        await self._sessions.require(session_id)
        return await self._view(session_id)

    async def tasks(self, session_id: str, after: str, limit: int) -> tuple[list[TaskRecord], str | None]:
        """The session's tasks in the order of submission. Errors: ``UnknownSession``."""
        await self._sessions.require(session_id)
        shown: list[TaskRecord] = []
        text = taken = 0
        while page := await self._store.scan(names.tasks_of(session_id), after, min(TOGETHER, limit - taken)):
            found = await self._tasks.show_all(document.key for document in page)
            shown += found
            taken += len(page)
            text += sum(len(task.input) for task in found)
            after = page[-1].key
            if taken >= limit or text >= MOST_TEXT:
                more = await self._store.scan(names.tasks_of(session_id), after, 1)
                return shown, after if more else None
        return shown, None

    async def newest(self, session_id: str) -> TaskRecord | None:
        """The task that was submitted last. Errors: ``UnknownSession``."""
        await self._sessions.require(session_id)
        for key in await self._keys(session_id, 1):
            for task in await self._tasks.show_all([key]):
                return task
        return None

    async def _view(self, session_id: str) -> SessionView:
        keys = await self._keys(session_id, MOST)
        state = await self._sessions.kept_state(session_id)
        return SessionView(session_id, [names.dated(key) for key in reversed(keys)], state)

    async def _keys(self, session_id: str, most: int) -> list[str]:
        """The newest keys of the session's list, the newest first."""
        page = await self._store.scan(names.tasks_of(session_id), limit=most, backwards=True)
        return [document.key for document in page]
