"""The entries of a task's stream as clients give them to programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from arriero.client.streams import Entry, event_data
from arriero.types.errors import ErrorInfo, ProtocolError
from arriero.types.tasks import TaskStatus


class TaskEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a task's stream.

    ``kind`` is ``event`` (``type`` is the name of its class, ``data`` its fields, ``path`` names the services below the
    task where it arose, joined by slashes, and ``last`` marks the event that ended a run), ``restarted`` (what follows
    comes from another run, after a lost worker) or ``end`` (with the task's ``status`` and, unless it completed, its
    ``error``). ``id`` is what a later reading goes on behind; it is the number ``seq`` as text. ``at`` is in Unix
    seconds.
    """

    id: str
    kind: str
    type: str = ""
    path: str = ""
    data: dict[str, Any] | None = None
    last: bool = False
    status: TaskStatus | None = None
    error: ErrorInfo | None = None
    at: float = 0.0

    @property
    def seq(self) -> int:
        """The number of the entry in the stream of its task, from 1."""
        return int(self.id)

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self.kind == "end"


class _Told(msgspec.Struct):
    type: str = ""
    path: str = ""
    data: dict[str, Any] | None = None
    last: bool = False
    status: TaskStatus | None = None
    error: ErrorInfo | None = None
    at: float = 0.0


_told = msgspec.json.Decoder(_Told).decode


def events_of(page: list[Entry], task_id: str) -> Iterator[dict[str, Any]]:
    """The documented dicts of the events among these; the end of a task without success raises."""
    for entry in page:
        if (event := event_data(entry, task_id)) is not None:
            yield event


def entries_of(page: list[Entry], task_id: str) -> Iterator[TaskEntry]:
    """All of these."""
    return (_read(entry, task_id) for entry in page)


def _read(entry: Entry, task_id: str) -> TaskEntry:
    try:
        told = _told(entry.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"entry {entry.id[:20]} of the stream of task {task_id} cannot be read: {error}") from error
    return TaskEntry(
        id=entry.id,
        kind=entry.kind,
        type=told.type,
        path=told.path,
        data=told.data,
        last=told.last,
        status=told.status,
        error=told.error,
        at=told.at,
    )
