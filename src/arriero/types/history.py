"""What clients are told of a task's past, and of tasks that came to no good end."""

from __future__ import annotations

from typing import Any

import msgspec

from arriero.types.errors import ErrorInfo
from arriero.types.tasks import TaskStatus


class HistoryItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One order to one service, as it stands; a child names its ``parent``, and ``path`` the services above and itself.

    ``epoch`` counts its claims, ``attempts`` the runs that its handler ended, ``losses`` the workers that went away
    since it last came further, ``steps`` those that its journal has as finished. ``worker_id`` is whoever has it or had
    it last. Times are Unix seconds.
    """

    item_id: str
    service: str
    status: TaskStatus
    parent: str | None = None
    path: str = ""
    epoch: int = 0
    attempts: int = 0
    losses: int = 0
    worker_id: str = ""
    steps: int = 0
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    waits_for: list[dict[str, Any]] = []
    error: ErrorInfo | None = None


class HistoryEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Something that happened, ``at`` a time in Unix seconds; ``number`` counts the entries of a history from 1.

    ``kind`` is one of

    - ``submitted``, ``ended``: of the task;
    - ``ordered``, ``claimed``, ``item_ended``: of an item;
    - ``lost``, ``released``, ``retried``, ``parked``: how a claim ended that did not end its item;
    - ``woken``, ``restarted``: an item that was left goes on, or begins anew;
    - ``step``: a step of a workflow gave its ``result``, the name of an event's class; ``step_failed``, ``step_waits``:
      it raised, or waits for an event of the class ``result``. ``step`` is its name, with ``#k`` when it is not its
      first time to finish; ``finished`` counts the steps of the item that are finished, and is what a fork may start
      behind: 0 for the step that ended the run; ``since`` is when it was begun;
    - ``event``: on the task's stream, there the ``seq``-th; ``sent``: from outside, the ``seq``-th of the item.

    ``data`` is what an event holds, where it was asked for.
    """

    number: int = 0
    at: float
    kind: str
    item_id: str = ""
    service: str = ""
    path: str = ""
    epoch: int = 0
    worker_id: str = ""
    step: str = ""
    finished: int = 0
    since: float | None = None
    result: str = ""
    type: str = ""
    seq: int = 0
    attempt: int = 0
    delay: float | None = None
    reason: str = ""
    status: TaskStatus | None = None
    error: ErrorInfo | None = None
    data: dict[str, Any] | None = None


class TaskHistory(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything that is known of a task's past, in the order in which it happened.

    ``left_out`` counts what is beyond the limits, by kind: ``items`` and ``entries``. ``following`` is what to ask for
    as ``after`` to get the entries behind these.
    """

    task_id: str
    session_id: str
    service: str
    status: TaskStatus
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    error: ErrorInfo | None = None
    forked_from: str | None = None
    forked_after: int | None = None
    replay_of: str | None = None
    items: list[HistoryItem] = []
    entries: list[HistoryEntry] = []
    left_out: dict[str, int] = {}
    following: int | None = None


class DeadTask(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task that failed or is dead, and that nobody has dealt with; ``losses`` as of its items together."""

    task_id: str
    session_id: str
    service: str
    status: TaskStatus
    error: ErrorInfo | None = None
    attempts: int = 0
    losses: int = 0
    created_at: float = 0.0
    finished_at: float = 0.0
    forked_from: str | None = None
    replay_of: str | None = None
