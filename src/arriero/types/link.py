"""The frames between a worker and the control plane, and the protocol that both kinds of link keep.

A link is one connection of one worker. Every request of the worker has an id and is answered once; after a reconnect
the requests that were not answered are sent again, so each of them is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from arriero.types.errors import ErrorInfo, PayloadTooLarge
from arriero.types.tasks import TaskStatus

#: Largest JSON text of a stream event, unless the control plane says otherwise.
LARGEST_EVENT = 1024 * 1024


class Arrival(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An event that was sent to an item from outside; ``seq`` counts from 1 within the item.

    ``type`` is one of the names that the service accepts; ``data`` is a JSON object.
    """

    seq: int
    type: str
    data: msgspec.Raw


class Grant(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A claimed work item: what to do, and the right to do it.

    ``input`` is the task's text, ``context`` what the (session, service) kept from its last item. ``deadline`` is in
    seconds from now. ``path`` names the services between the task and this item, joined by slashes: empty for the
    task's own. ``inbox`` holds the events that were sent from outside so far, ``journal`` how far an earlier
    run had come, written by a handler of that ``shape``: the entries behind the first ``skipped``.
    """

    item_id: str
    task_id: str
    session_id: str
    service: str
    token: str
    epoch: int
    attempt: int
    input: str
    context: str | None = None
    deadline: float | None = None
    headers: dict[str, str] = {}
    path: str = ""
    inbox: list[Arrival] = []
    journal: list[msgspec.Raw] = []
    skipped: int = 0
    shape: str = ""


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One stream event of an item. ``number`` counts from 0 within (item, epoch), so that a repeat is recognised.

    ``type`` is the name of the event's class; ``data`` is a JSON object. ``path`` is where below the item it arose,
    when a workflow ran another in its own process. ``asks`` is set when it asks for an answer from outside, ``last``
    for the event that ends a run.
    """

    number: int
    data: msgspec.Raw
    type: str = ""
    path: str = ""
    asks: bool = False
    last: bool = False


class Report(msgspec.Struct, kw_only=True, omit_defaults=True, tag="report"):
    """How an item ended: ``value`` (any JSON value) or ``error``; ``events`` is the unsent tail of its stream.

    ``context`` is kept for the next item of the same (session, service); None keeps what is there.
    ``free`` asks for that many new items in the answer. ``step`` is the name of the step of a workflow that ended it,
    which ``took`` so many seconds.
    """

    request: int
    item_id: str
    token: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorInfo | None = None
    events: list[Event] = []
    context: str | None = None
    free: int = 0
    step: str = ""
    took: float | None = None


class Hello(msgspec.Struct, kw_only=True, omit_defaults=True, tag="hello"):
    """The first frame of a connection. ``held`` maps the items that the worker works on to their claim tokens.

    ``parallel`` says that items of one session need no order; ``max_queue`` is how many items may be queued at most.
    ``accepts`` lists the events that its handler takes from outside, each by every name it goes by, with whether it is
    an answer (to an event that asks). ``takes``: it may be granted items that it did not
    ask for, one for each free slot. ``shape`` is that of the journals which its handler writes and can read.
    """

    worker_id: str
    service: str
    slots: int
    free: int
    description: str = ""
    host: str | None = None
    port: int | None = None
    parallel: bool = False
    max_queue: int | None = None
    takes: bool = False
    held: dict[str, str] = {}
    accepts: dict[str, bool] = {}
    shape: str = ""


class Claim(msgspec.Struct, kw_only=True, tag="claim"):
    """Ask for at most ``free`` items."""

    request: int
    free: int


class Emit(msgspec.Struct, kw_only=True, tag="emit"):
    """Append events to the stream of an item."""

    request: int
    item_id: str
    token: str
    events: list[Event]


class Release(msgspec.Struct, kw_only=True, tag="release"):
    """Give items back unfinished (a drain); they are queued again at once and no loss is counted."""

    request: int
    tokens: dict[str, str]


class Call(msgspec.Struct, kw_only=True, omit_defaults=True, tag="call"):
    """Have a child of an item done by a service; answered when the child has ended, so it is open for that long.

    The same ``key`` within the item is the same child, which is not started twice. ``patient`` waits for a service
    that may be about to register; otherwise an unknown one is refused at once.
    """

    request: int
    item_id: str
    token: str
    key: str
    service: str
    input: str
    patient: bool = True


class Journal(msgspec.Struct, kw_only=True, omit_defaults=True, tag="journal"):
    """Keep how far an item has come, before what follows from it is begun.

    ``entry`` is the item's ``number``-th, a JSON value that only its handler reads; ``shape`` says by which version
    of the handler it was written. ``events`` is what its stream has besides, in the same commit. One that is not
    ``durable`` goes to the disk with what follows from it, and tells of no step that has ended. A ``base`` says all, so
    that those before it are not read.
    """

    request: int
    item_id: str
    token: str
    number: int
    entry: msgspec.Raw
    shape: str = ""
    events: list[Event] = []
    durable: bool = True
    base: bool = False


class Wait(msgspec.Struct, kw_only=True, omit_defaults=True, tag="wait"):
    """The item has nothing to do until an event comes from outside. ``events`` names what would move it.

    ``seen`` is the seq of the newest arrival that it knows, so that one which crosses this frame is not slept through.
    ``over`` takes it back: there is something to do. With ``leave`` the worker wants to be rid of the item, whose
    journal says all; it is claimed anew when an event comes, or after ``wake_after`` seconds. ``reason`` is for people,
    and so is ``unmatched``, the events that came and that nothing in it takes.
    """

    request: int
    item_id: str
    token: str
    events: list[str] = []
    seen: int = 0
    over: bool = False
    leave: bool = False
    wake_after: float | None = None
    reason: str = ""
    unmatched: list[str] = []


class Bye(msgspec.Struct, kw_only=True, tag="bye"):
    """The worker leaves on purpose."""

    request: int


class Welcome(msgspec.Struct, kw_only=True, omit_defaults=True, tag="welcome"):
    """Answers :class:`Hello`. ``stop`` lists held items whose token is no longer good. Lengths are in seconds;
    ``renew_every`` 0 says that the lease needs no renewal. ``max_event`` is the most bytes of an event.
    """

    link_id: str
    lease: float
    renew_every: float
    topic_namespace: str = "llama_deploy"
    max_event: int = LARGEST_EVENT
    stop: list[str] = []


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a child ended: its ``value``, or the ``error`` that goes with any status but ``completed``."""

    status: TaskStatus = TaskStatus.COMPLETED
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorInfo | None = None


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True, tag="answer"):
    """Answers one request; ``error`` set means that nothing of it took effect. ``outcome`` answers a :class:`Call`,
    ``left`` says to a :class:`Wait` that the item is the worker's no more.
    """

    request: int
    error: ErrorInfo | None = None
    grants: list[Grant] = []
    outcome: Outcome | None = None
    left: bool = False


class Deliver(msgspec.Struct, kw_only=True, tag="deliver"):
    """Events for an item that the worker holds. After a reconnect they come again; their ``seq`` tells."""

    item_id: str
    token: str
    arrivals: list[Arrival]


class Granted(msgspec.Struct, kw_only=True, tag="granted"):
    """Items that the worker did not ask for; what it has no slot for, it releases at once."""

    grants: list[Grant]


class Stop(msgspec.Struct, kw_only=True, omit_defaults=True, tag="stop"):
    """Stop working on an item: its token is no longer good. ``reason``: ``fenced``, ``cancelled``, ``timed_out`` ..."""

    item_id: str
    token: str
    reason: str


#: Largest JSON text of a result, of the event that holds it, and of what a session keeps for its next item.
LARGEST_VALUE = 32 * 1024 * 1024
#: Beyond this size, frames travel in messages of their own; and the size of a message that ends the connection.
SPLIT = 16 * 1024 * 1024
LARGEST_MESSAGE = 256 * 1024 * 1024

WorkerFrame = Hello | Report | Claim | Emit | Call | Journal | Wait | Release | Bye
CoreFrame = Welcome | Answer | Stop | Deliver | Granted

#: A WebSocket message holds a JSON list of frames.
encode_frames = msgspec.json.Encoder().encode
decode_worker_frames = msgspec.json.Decoder(list[WorkerFrame]).decode
decode_core_frames = msgspec.json.Decoder(list[CoreFrame]).decode


def messages(frames: Sequence[WorkerFrame] | Sequence[CoreFrame]) -> list[bytes]:
    """The messages that carry these frames, in order: one, or one for each frame when they are large."""
    together = encode_frames(frames)
    return [together] if len(together) <= SPLIT else [encode_frames([frame]) for frame in frames]


def check_event(type: str, size: int, limit: int) -> None:
    """Refuse an event that is larger than may be."""
    if size > limit:
        raise PayloadTooLarge(
            f"event {type or 'of the stream'} has {size} bytes; the limit is {limit} "
            "(setting max_event of ControlPlaneConfig, CONTROL_PLANE_MAX_EVENT)",
            size=size,
            limit=limit,
            setting="max_event",
        )


class ControlPlaneLink(Protocol):
    """What a worker needs of the control plane. Errors are those of :mod:`arriero.types.errors`.

    Implementations reconnect by themselves; a call made while there is no connection waits for one.
    """

    async def open(self, hello: Callable[[], Hello], on_push: Callable[[Push], None], on_open: OnOpen) -> None:
        """Connect; ``hello`` is asked anew, and ``on_open`` told, at each connection. Returns after the first.

        ``on_push`` gets what the control plane sends of itself.
        """

    async def claim(self, free: int) -> list[Grant]:
        """At most ``free`` items, the oldest first."""

    async def emit(self, item_id: str, token: str, events: list[Event]) -> None:
        """Append events to an item's stream, in order."""

    async def report(self, report: Report) -> list[Grant]:
        """End an item; gives at most ``report.free`` new ones. ``request`` is filled in by the link."""

    async def call(self, call: Call) -> Outcome:
        """Have a child of an item done; gives how it ended. ``request`` is filled in by the link.

        Errors: ``UnknownService``, ``TooDeep``, ``Fenced``. Cancelling the call does not end the child.
        """

    async def journal(self, journal: Journal) -> None:
        """Keep how far an item has come; durable when this returns. ``request`` is filled in by the link."""

    async def wait(self, wait: Wait) -> bool:
        """Say that an item waits for an event; gives whether it was left. ``request`` is filled in by the link."""

    async def release(self, tokens: dict[str, str]) -> None:
        """Give items back unfinished."""

    def renew(self, worker_id: str) -> float:
        """Renew the worker's lease from any thread, blocking; gives the lease in seconds, counted from the call."""

    async def aclose(self) -> None:
        """Leave."""


OnOpen = Callable[[Welcome], None]
#: What the control plane sends without being asked.
Push = Stop | Deliver | Granted


def to_json(value: Any) -> msgspec.Raw:
    """JSON text of a value, for the fields that are passed on unread."""
    return msgspec.Raw(msgspec.json.encode(value))
