"""The frames on a connection that a client of the simple message queue keeps open at ``/connect``.

Each WebSocket message is a JSON list of frames, handled in order; the server reads bytes or text, and sends bytes.
A frame with a ``request`` other than 0 is answered once, by number. Deliveries are settled by subscription and tag;
when a connection closes, all that it held is put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from arriero.types.errors import ErrorInfo

#: How much goes into one WebSocket message, in bytes of messages, beyond the first.
BATCH = 256 * 1024
#: What a frame may have beside its message, in bytes.
OVERHEAD = 64 * 1024


class Publish(msgspec.Struct, omit_defaults=True, tag="publish", tag_field="frame"):
    """Put a message on a topic. A transient one has no ``request``: it is not answered."""

    topic: str
    message: msgspec.Raw
    request: int = 0
    transient: bool = False


class Subscribe(msgspec.Struct, tag="subscribe", tag_field="frame"):
    """Compete for a topic's messages; ``subscription`` is a number of the client's choice."""

    request: int
    subscription: int
    topic: str
    prefetch: int


class Unsubscribe(msgspec.Struct, tag="unsubscribe", tag_field="frame"):
    """End a subscription; what it holds is put back."""

    request: int
    subscription: int


class Ack(msgspec.Struct, tag="ack", tag_field="frame"):
    """The delivery is done with."""

    subscription: int
    tag: int


class Nack(msgspec.Struct, omit_defaults=True, tag="nack", tag_field="frame"):
    """Deliver it again, after ``delay`` seconds."""

    subscription: int
    tag: int
    delay: float = 0.0


class Reject(msgspec.Struct, tag="reject", tag_field="frame"):
    """Dead-letter it."""

    subscription: int
    tag: int
    reason: str


class Depth(msgspec.Struct, tag="depth", tag_field="frame"):
    """Ask how many messages wait on a topic."""

    request: int
    topic: str


class Letters(msgspec.Struct, tag="letters", tag_field="frame"):
    """Ask for the dead letters of a topic."""

    request: int
    topic: str


class Flush(msgspec.Struct, tag="flush", tag_field="frame"):
    """Answered when all that came before has been handled."""

    request: int


class Letter(msgspec.Struct):
    """A dead letter; ``body`` is base64."""

    body: bytes
    reason: str


class Deliver(msgspec.Struct, tag="deliver", tag_field="frame"):
    """A message for a subscription."""

    subscription: int
    tag: int
    message: msgspec.Raw


class Answer(msgspec.Struct, omit_defaults=True, tag="answer", tag_field="frame"):
    """Answers one request; ``error`` set means that it did not take effect."""

    request: int
    error: ErrorInfo | None = None
    depth: int = 0
    letters: list[Letter] = []


Request = Publish | Subscribe | Unsubscribe | Depth | Letters | Flush
ClientFrame = Request | Ack | Nack | Reject
ServerFrame = Deliver | Answer

_encode = msgspec.json.Encoder().encode
decode_client_frames = msgspec.json.Decoder(list[ClientFrame]).decode
decode_server_frames = msgspec.json.Decoder(list[ServerFrame]).decode


def batches(frames: Sequence[Any]) -> Iterator[bytes]:
    """The frames as WebSocket messages of a bounded size."""
    start, size = 0, 0
    for index, frame in enumerate(frames):
        more = len(frame.message) if isinstance(frame, Publish | Deliver) else 0
        if size + more > BATCH and index > start:
            yield _encode(frames[start:index])
            start, size = index, 0
        size += more
    if start < len(frames):
        yield _encode(frames[start:])
