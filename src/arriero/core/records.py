"""What is stored: the truth about tasks, items, sessions and workers."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from arriero.types.errors import ErrorInfo
from arriero.types.tasks import TaskStatus

NULL = msgspec.Raw(b"null")
ENDS = frozenset(status for status in TaskStatus if status.is_end)
CLAIMED = frozenset({TaskStatus.RUNNING, TaskStatus.WAITING})


class TaskRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a client submitted and what came of it. ``open`` counts the items that have not ended.

    ``apart`` names what is stored beside the record, for its size.

    ``forked_from`` names the task whose journal it began with, cut behind the finished step ``forked_after``;
    ``replay_of`` the one whose input it was given.

    ``undecided`` names, in their order, the items that have ended and of which the orchestrator has not decided what
    follows; ``""`` stands for the beginning. They still count as open.

    ``waits_for`` is what keeps it from going on, where somebody looks at it; it is not stored.
    """

    id: str
    session_id: str
    service: str
    input: str
    fingerprint: str
    created_at: float
    status: TaskStatus = TaskStatus.QUEUED
    deadline: float | None = None
    deadline_at: float | None = None
    headers: dict[str, str] = {}
    parent: str | None = None
    open: int = 0
    ordered: int = 0
    notes: dict[str, Any] = {}
    undecided: list[str] = []
    value: msgspec.Raw = NULL
    error: ErrorInfo | None = None
    attempts: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    apart: list[str] = []
    forked_from: str | None = None
    forked_after: int | None = None
    replay_of: str | None = None
    waits_for: list[dict[str, Any]] = []

    @property
    def ended(self) -> bool:
        return self.status in ENDS


class ItemRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One order to one service. ``input`` None is the task's; ``token`` is the newest claim's.

    ``epoch`` counts claims, ``attempt`` the runs that a handler ended, ``losses`` the workers that went away.
    ``reported`` is the token of the last report that was taken, so that its repeat is known. ``place`` is the item's
    number in its lane's queue, 0 once it may run.

    A child has a ``parent``, the ``key`` of its call there, the parent's ``attempt`` in ``called_in``, and keeps its
    own outcome; it is as old as its task, so that it is served before what came later. ``path`` names the services that
    lie between the task and the item, ``calls`` says that the item has had children.

    ``inbox`` counts the events that came from outside, ``asked`` the events of this epoch that ask for an answer,
    ``answered`` the answers that came; ``awaits`` names the events that a waiting item would be moved by, ``unmatched``
    those that came and that nothing in it took.

    ``journaled`` says that it has a journal, of the ``shape`` of handler that wrote it, and ``asked_for_good`` how many
    of the questions are in it; its entries up to ``base`` need not be read. A ``parked`` item was left by its worker
    until an event comes, or until ``wake_at``; one that is a ``misfit``, until a worker comes whose handler has the
    shape of its journal.

    ``claimed_at`` is when the newest claim was granted, ``ended_at`` when it ended; what became of earlier claims is in
    its log, if it is ``logged``. ``last_step`` is the step that ended it, which ``took`` so many seconds.
    """

    id: str
    task_id: str
    session_id: str
    service: str
    created_at: float
    status: TaskStatus = TaskStatus.QUEUED
    input: str | None = None
    parallel: bool = False
    place: int = 0
    retry_at: float | None = None
    deadline_at: float | None = None
    epoch: int = 0
    attempt: int = 0
    losses: int = 0
    token: str = ""
    worker_id: str = ""
    reported: str = ""
    apart: bool = False
    started_at: float | None = None
    parent: str | None = None
    key: str = ""
    called_in: int = 0
    called_at: float | None = None
    path: str = ""
    calls: bool = False
    value: msgspec.Raw = NULL
    error: ErrorInfo | None = None
    inbox: int = 0
    asked: int = 0
    answered: int = 0
    awaits: list[str] = []
    unmatched: list[str] = []
    journaled: bool = False
    shape: str = ""
    asked_for_good: int = 0
    base: int = 0
    parked: bool = False
    wake_at: float | None = None
    misfit: bool = False
    claimed_at: float | None = None
    ended_at: float | None = None
    logged: bool = False
    last_step: str = ""
    took: float | None = None

    @property
    def claimed(self) -> bool:
        """Whether a worker has it."""
        return self.status in CLAIMED

    @property
    def turn(self) -> str:
        """Whose turn its changes take: its session's, for they change the lane too; a child's are its own."""
        return self.session_id if self.parent is None else self.id

    @property
    def depth(self) -> int:
        return self.path.count("/") + 1 if self.path else 0

    @property
    def ended(self) -> bool:
        return self.status in ENDS


class Start(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the first item of a task begins with, if it is for that service: a journal, of which ``base`` is skipped."""

    service: str
    shape: str
    entries: list[msgspec.Raw]
    base: int = 0


class LaneRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The order of a session's items for one service: the one that may run, and how many were ever put behind it."""

    head: str | None = None
    queued: int = 0
    taken: int = 0

    @property
    def waiting(self) -> int:
        return self.queued - self.taken

    @property
    def is_empty(self) -> bool:
        return self.head is None and self.waiting <= 0


class SessionRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    created_at: float


class ServiceRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A service that was registered once. ``linked``: one of our workers served it, so it claims.

    ``accepts`` lists the events that it takes from outside, by every name, with whether it is an answer. ``shape`` is
    that of the handler which came last.
    """

    name: str
    description: str = ""
    prompt: list[dict[str, Any]] = []
    host: str | None = None
    port: int | None = None
    parallel: bool = False
    linked: bool = False
    max_queue: int | None = None
    accepts: dict[str, bool] = {}
    shape: str = ""


class WorkerRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A worker that may hold items. One that is ``local`` lives in the control plane's own process."""

    id: str
    service: str
    link_id: str
    renewed_at: float
    local: bool = False


class StreamEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One entry of a task's stream: ``event`` (its own, or of a service below, at ``path``), ``restarted``, or the one
    ``end``. ``last`` marks the event that ended a run.
    """

    kind: str
    type: str = ""
    item: str = ""
    epoch: int = 0
    number: int = 0
    path: str = ""
    last: bool = False
    at: float = 0.0
    data: msgspec.Raw = NULL
    status: TaskStatus | None = None
    error: ErrorInfo | None = None


class LogRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of an item's claim, or how an item that was left goes on; ``at`` is when.

    ``lost``, ``released``, ``retried`` (after the failed ``attempt``, in ``delay`` seconds, for the ``error``) and
    ``parked`` end the claim that the ``worker`` got at ``since`` as the ``epoch``-th. ``woken`` and ``restarted`` come
    after a ``parked``. ``reason`` is for people.
    """

    kind: str
    at: float
    epoch: int = 0
    worker: str = ""
    since: float | None = None
    attempt: int = 0
    delay: float | None = None
    reason: str = ""
    error: ErrorInfo | None = None


class DeadRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task in the list of those that failed or are dead."""

    service: str
    status: TaskStatus


class ArrivalRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An event that was sent to an item from outside."""

    type: str
    data: msgspec.Raw
    at: float
    key: str = ""


class OutboxRecord(msgspec.Struct, kw_only=True):
    topic: str
    message: msgspec.Raw


encode = msgspec.json.Encoder().encode
T = TypeVar("T")


class Codec(Generic[T]):
    """Reads stored bytes as one kind of record."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self.decode = msgspec.json.Decoder(kind).decode


TASK = Codec(TaskRecord)
ITEM = Codec(ItemRecord)
LANE = Codec(LaneRecord)
SESSION = Codec(SessionRecord)
SERVICE = Codec(ServiceRecord)
WORKER = Codec(WorkerRecord)
ENTRY = Codec(StreamEntry)
OUTBOX_ENTRY = Codec(OutboxRecord)
ARRIVAL = Codec(ArrivalRecord)
LOG = Codec(LogRecord)
DEAD = Codec(DeadRecord)
START: Codec[Start | None] = Codec(Start | None)  # type: ignore[arg-type]  # a union is no class
TEXT = Codec(str)
STATE: Codec[dict[str, Any]] = Codec(dict[str, Any])


class Loaded(Generic[T]):
    """A record with the version it was read at; version 0 is a record that is not stored yet."""

    __slots__ = ("record", "version")

    def __init__(self, record: T, version: int) -> None:
        self.record = record
        self.version = version


def item_ids(task: TaskRecord) -> list[str]:
    """The ids of all items that were ever ordered for the task. No task can have such an id, for the slash."""
    return [task.id, *(f"{task.id}/{number}" for number in range(2, task.ordered + 1))][: task.ordered]
