"""The frames between a worker and the control plane, and the protocol that both kinds of link keep.

A link is one connection of one worker. Every request of the worker has an id and is answered once; after a reconnect
the requests that were not answered are sent again, so each of them is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from arriero.types.errors import ErrorInfo


class Grant(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A claimed work item: what to do, and the right to do it.

    ``input`` is the task's text, ``context`` what the (session, service) kept from its last item. ``deadline`` is in
    seconds from now.
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


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One stream event of an item. ``number`` counts from 0 within (item, epoch), so that a repeat is recognised.

    ``type`` is the name of the event's class; ``data`` is a JSON object.
    """

    number: int
    data: msgspec.Raw
    type: str = ""


class Report(msgspec.Struct, kw_only=True, omit_defaults=True, tag="report"):
    """How an item ended: ``value`` (any JSON value) or ``error``; ``events`` is the unsent tail of its stream.

    ``context`` is kept for the next item of the same (session, service); None keeps what is there.
    ``free`` asks for that many new items in the answer.
    """

    request: int
    item_id: str
    token: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorInfo | None = None
    events: list[Event] = []
    context: str | None = None
    free: int = 0


class Hello(msgspec.Struct, kw_only=True, omit_defaults=True, tag="hello"):
    """The first frame of a connection. ``held`` maps the items that the worker works on to their claim tokens.

    ``parallel`` says that items of one session need no order; ``max_queue`` is how many items may be queued at most.
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
    held: dict[str, str] = {}


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


class Bye(msgspec.Struct, kw_only=True, tag="bye"):
    """The worker leaves on purpose."""

    request: int


class Welcome(msgspec.Struct, kw_only=True, omit_defaults=True, tag="welcome"):
    """Answers :class:`Hello`. ``stop`` lists held items whose token is no longer good. Lengths are in seconds;
    ``renew_every`` 0 says that the lease needs no renewal.
    """

    link_id: str
    lease: float
    renew_every: float
    topic_namespace: str = "llama_deploy"
    stop: list[str] = []


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True, tag="answer"):
    """Answers one request; ``error`` set means that nothing of it took effect."""

    request: int
    error: ErrorInfo | None = None
    grants: list[Grant] = []


class Stop(msgspec.Struct, kw_only=True, omit_defaults=True, tag="stop"):
    """Stop working on an item: its token is no longer good. ``reason``: ``fenced``, ``cancelled``, ``timed_out`` ..."""

    item_id: str
    token: str
    reason: str


#: Largest JSON text of a result, of a stream event, and of what a session keeps for its next item.
LARGEST_VALUE = 32 * 1024 * 1024
#: Beyond this size, frames travel in messages of their own; and the size of a message that ends the connection.
SPLIT = 16 * 1024 * 1024
LARGEST_MESSAGE = 256 * 1024 * 1024

WorkerFrame = Hello | Report | Claim | Emit | Release | Bye
CoreFrame = Welcome | Answer | Stop

#: A WebSocket message holds a JSON list of frames.
encode_frames = msgspec.json.Encoder().encode
decode_worker_frames = msgspec.json.Decoder(list[WorkerFrame]).decode
decode_core_frames = msgspec.json.Decoder(list[CoreFrame]).decode


def messages(frames: Sequence[WorkerFrame] | Sequence[CoreFrame]) -> list[bytes]:
    """The messages that carry these frames, in order: one, or one for each frame when they are large."""
    together = encode_frames(frames)
    return [together] if len(together) <= SPLIT else [encode_frames([frame]) for frame in frames]


class ControlPlaneLink(Protocol):
    """What a worker needs of the control plane. Errors are those of :mod:`arriero.types.errors`.

    Implementations reconnect by themselves; a call made while there is no connection waits for one.
    """

    async def open(self, hello: Callable[[], Hello], on_stop: Callable[[Stop], None], on_open: OnOpen) -> None:
        """Connect; ``hello`` is asked anew, and ``on_open`` told, at each connection. Returns after the first."""

    async def claim(self, free: int) -> list[Grant]:
        """At most ``free`` items, the oldest first."""

    async def emit(self, item_id: str, token: str, events: list[Event]) -> None:
        """Append events to an item's stream, in order."""

    async def report(self, report: Report) -> list[Grant]:
        """End an item; gives at most ``report.free`` new ones. ``request`` is filled in by the link."""

    async def release(self, tokens: dict[str, str]) -> None:
        """Give items back unfinished."""

    def renew(self, worker_id: str) -> float:
        """Renew the worker's lease from any thread, blocking; gives the lease in seconds, counted from the call."""

    async def aclose(self) -> None:
        """Leave."""


OnOpen = Callable[[Welcome], None]


def to_json(value: Any) -> msgspec.Raw:
    """JSON text of a value, for the fields that are passed on unread."""
    return msgspec.Raw(msgspec.json.encode(value))
