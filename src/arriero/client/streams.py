"""Reading the stream of a task: server-sent events out of bytes, over as many connections as it takes."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from arriero.client import requests
from arriero.client.answers import end_error
from arriero.client.trouble import Patience, Trouble
from arriero.types.errors import ErrorInfo, ProtocolError, WaitTimeout
from arriero.types.tasks import TaskStatus

#: Bytes of one event.
LONGEST_EVENT = 64 * 1024 * 1024
#: Digits of an id that is a number.
LONGEST_NUMBER = 19
#: A connection that lived for that many seconds was a good one, even if it brought nothing but keep-alives.
GOOD_CONNECTION = 2.0
#: Seconds that the last connection within the limit has for its first bytes.
LAST_CHANCE = 0.5


class Entry(msgspec.Struct, frozen=True):
    """One entry of a stream: its id, its kind (``event``, ``restarted``, ``end``) and its JSON text."""

    id: str
    kind: str
    data: bytes


class EventReader:
    """Takes bytes as they come and gives the events that are complete, each once."""

    def __init__(self, after: str = "", longest: int = LONGEST_EVENT) -> None:
        self.last_id = after
        self._longest = longest
        self.reset()

    def reset(self) -> None:
        """Forget what was cut off: the bytes of another connection follow."""
        self._parts: list[bytes] = []
        self._held = 0
        self._kind = ""
        self._data: list[bytes] = []
        self._id = ""

    def feed(self, chunk: bytes) -> list[Entry]:
        """The entries that this chunk completes."""
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            self._hold(chunk)
            return []
        self._parts.append(head)
        lines = b"".join(self._parts).split(b"\n")
        self._parts = [tail]
        self._held = len(tail)
        entries = (self._take(line.removesuffix(b"\r")) for line in lines)
        return [entry for entry in entries if entry is not None]

    def _hold(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        self._held += len(chunk)
        if self._held > self._longest:
            raise ProtocolError(f"an event of the stream is longer than {self._longest} bytes")

    def _take(self, line: bytes) -> Entry | None:
        if not line:
            return self._complete()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                self._data.append(value)
            case b"event":
                self._kind = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        return None

    def _complete(self) -> Entry | None:
        entry = Entry(self._id, self._kind, b"\n".join(self._data))
        self._id, self._kind, self._data = "", "", []
        if not entry.data or self._seen(entry.id):
            return None
        self.last_id = entry.id or self.last_id
        return entry

    def _seen(self, id: str) -> bool:
        """Whether a numbered entry has been given before: a server that cannot resume starts at the beginning."""
        return _is_number(id) and _is_number(self.last_id) and int(id) <= int(self.last_id)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER


class Following:
    """One reader of a task's stream. ``limit`` bounds the wait for the first entry, and each outage; None does not.

    The shell asks for a :meth:`request`, passes the bytes of its answer through :meth:`feed` and says when the
    connection was :meth:`lost`, until it has the entry ``end``.
    """

    def __init__(self, session_id: str, task_id: str, url: str, limit: float | None, now: float) -> None:
        self._session_id = session_id
        self._task_id = task_id
        self._url = url
        self._limit = limit
        self._reader = EventReader()
        self._first_until = None if limit is None else now + limit
        self._patience: Patience | None = None
        self._connected_at = now
        self._alive = False

    def behind(self, after: str) -> Self:
        """Begin behind the entry of this id."""
        self._reader = EventReader(after)
        return self

    def request(self, now: float) -> requests.Request[None]:
        """The request that begins, or goes on."""
        self._reader.reset()
        self._connected_at = now
        self._alive = False
        return requests.task_events(self._session_id, self._task_id, self._reader.last_id)

    def first_within(self, now: float) -> float | None:
        """For how many seconds the next bytes are worth waiting; a connection just made gets a moment in any case."""
        if self._first_until is None:
            return None
        return max(self._first_until, self._connected_at + LAST_CHANCE) - now

    def too_late(self) -> WaitTimeout:
        """The error when nothing came within that time."""
        return WaitTimeout(
            f"task {self._task_id} has sent no event for {self._limit:g} s (the client's timeout); "
            "that does not stop it, and its stream can be read later",
            task_id=self._task_id,
        )

    def feed(self, chunk: bytes) -> list[Entry]:
        """The entries that these bytes complete."""
        entries = self._reader.feed(chunk)
        self._alive = True
        if entries:
            self._first_until = self._patience = None
        return entries

    def lost(self, trouble: Trouble, now: float) -> float:
        """Seconds until the next attempt to go on; raises when the outage has lasted for the whole limit."""
        if self._alive and now - self._connected_at > GOOD_CONNECTION:
            self._patience = None
        if self._patience is None:
            self._patience = Patience(self._url, self._limit, now if self._alive else self._connected_at)
        return self._patience.pause(trouble, now)


class _Event(msgspec.Struct):
    data: dict[str, Any]
    path: str = ""
    last: bool = False


class _End(msgspec.Struct):
    status: TaskStatus
    error: ErrorInfo | None = None


_read_event = msgspec.json.Decoder(_Event).decode
_read_end = msgspec.json.Decoder(_End).decode


def event_data(entry: Entry, task_id: str) -> dict[str, Any] | None:
    """The documented dict of an event; None for what is not an event, or ended the run of a service below the task.

    The end of a task without success raises.
    """
    try:
        if entry.kind == "event":
            event = _read_event(entry.data)
            return None if event.path and event.last else event.data
        if entry.kind != "end":
            return None
        end = _read_end(entry.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"entry {entry.id[:20]} of the stream of task {task_id} cannot be read: {error}") from error
    if end.status is not TaskStatus.COMPLETED:
        raise end_error(task_id, end.status, end.error)
    return None
