"""How large things may be that come from outside; a frame of a link is believed no more than a request is."""

from __future__ import annotations

from typing import Any

import msgspec

from arriero.core.records import ServiceRecord
from arriero.types.errors import ErrorInfo, InvalidInput, PayloadTooLarge
from arriero.types.jsonvalue import MAX_DEPTH, is_deep
from arriero.types.link import LARGEST_VALUE, Event, Journal, Report, Wait

#: The headers of a task: how many, and how many characters of all of them together.
MOST_HEADERS = 64
LARGEST_HEADERS = 32 * 1024
#: What a service says of itself, in characters and in bytes of JSON; and how many there may be.
LONGEST_DESCRIPTION = 64 * 1024
LARGEST_PROMPT = 256 * 1024
LONGEST_HOST = 255
MOST_SERVICES = 10_000
MOST_ACCEPTED = 1000
#: The key of a call, in characters; names that a wait shows; and the longest time that it may name, in seconds.
LONGEST_KEY = 8 * 1024
MOST_NAMES = 20
LONGEST_SLEEP = 1e9
#: What is kept of an error: characters of its message, its names, and bytes of its details.
LONGEST_MESSAGE = 64 * 1024
LONGEST_CODE = 256
#: The longest path of an event, in characters.
LONGEST_PATH = 8 * 1024
LARGEST_DETAILS = 64 * 1024
#: The longest pause that an error may ask for, in seconds.
LONGEST_PAUSE = 86_400.0
#: A result of so many bytes is read through; of a larger one, only whether it is text that JSON can be.
READ_THROUGH = 64 * 1024


def check_size(size: int, most: int, what: str, setting: str = "") -> None:
    """Raise :class:`PayloadTooLarge` beyond the limit."""
    if size > most:
        by = f" (setting {setting})" if setting else ""
        raise PayloadTooLarge(f"{what} has {size} bytes; the limit is {most} bytes{by}", size=size, limit=most)


def check_report(report: Report) -> None:
    """Refuse what a report must not bring, and cut its error to what is kept of one."""
    _check_value(report.value)
    check_events(report.events)
    if report.context is not None:
        check_size(_size(report.context), LARGEST_VALUE, "the context")
    if report.error is not None:
        report.error = bounded(report.error)
    if report.step:
        report.step = report.step[:LONGEST_CODE]
        report.took = None if report.took is None else min(max(report.took, 0.0), LONGEST_SLEEP)


def check_events(events: list[Event]) -> None:
    """Refuse events that are no single line of JSON with an object in it, or too large."""
    for event in events:
        data = bytes(event.data)
        check_size(len(data), LARGEST_VALUE, "an event")
        if data[:1] != b"{" or b"\n" in data or b"\r" in data:
            raise InvalidInput("an event is a JSON object in one line")
        _check_text(data, "an event")
        check_size(len(event.type), LONGEST_CODE, "the type of an event")
        check_size(len(event.path), LONGEST_PATH, "the path of an event")


def check_journal(frame: Journal) -> None:
    """Refuse an entry of a journal that is too large."""
    check_size(memoryview(frame.entry).nbytes, LARGEST_VALUE, "an entry of a journal")
    check_size(len(frame.shape), LONGEST_CODE, "the shape of a handler")


def bound_wait(wait: Wait) -> None:
    """Keep what a wait says short, and its time one that comes."""
    wait.reason = wait.reason[:LONGEST_CODE]
    wait.events = [name[:LONGEST_CODE] for name in wait.events[:MOST_NAMES]]
    wait.unmatched = [name[:LONGEST_CODE] for name in wait.unmatched[:MOST_NAMES]]
    if wait.wake_after is not None and not 0 <= wait.wake_after <= LONGEST_SLEEP:
        wait.wake_after = 0.0 if wait.wake_after < 0 else LONGEST_SLEEP


def bounded(error: ErrorInfo) -> ErrorInfo:
    """The error as it is kept."""
    return ErrorInfo(
        code=error.code[:LONGEST_CODE],
        message=_cut(error.message),
        type=error.type[:LONGEST_CODE],
        retryable=error.retryable,
        retry_after=_pause(error.retry_after),
        details=_details(error.details),
    )


def check_headers(headers: dict[str, str]) -> None:
    """Refuse more headers of a task than are kept with it."""
    if len(headers) > MOST_HEADERS:
        raise PayloadTooLarge(f"the task has {len(headers)} headers; the limit is {MOST_HEADERS}", limit=MOST_HEADERS)
    size = sum(len(name) + len(value) for name, value in headers.items())
    check_size(size, LARGEST_HEADERS, "all headers of the task together")


def check_service(record: ServiceRecord) -> None:
    """Refuse a service that says too much of itself."""
    check_size(len(record.description), LONGEST_DESCRIPTION, "the description of a service")
    check_size(len(record.host or ""), LONGEST_HOST, "the host of a service")
    check_size(len(record.shape), LONGEST_CODE, "the shape of a handler")
    if record.prompt:
        check_size(len(msgspec.json.encode(record.prompt)), LARGEST_PROMPT, "the prompt of a service")
    if len(record.accepts) > MOST_ACCEPTED:
        raise PayloadTooLarge(
            f"the service accepts {len(record.accepts)} names of events; the limit is {MOST_ACCEPTED}",
            limit=MOST_ACCEPTED,
        )
    check_size(sum(map(len, record.accepts)), LARGEST_PROMPT, "the names of events that a service accepts")
    if record.max_queue is not None and record.max_queue < 1:
        raise InvalidInput(f"max_queue must be at least 1, not {record.max_queue}")


def _check_value(value: msgspec.Raw) -> None:
    """Whatever reads the result later is to find JSON."""
    data = bytes(value)
    check_size(len(data), LARGEST_VALUE, "the result")
    if len(data) > READ_THROUGH and b"\\u" not in data:
        _check_text(data, "the result")
        return
    try:
        read = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the result is no JSON: {error}") from error
    if is_deep(read, data):
        raise InvalidInput(
            f"the result is nested more than {MAX_DEPTH} levels deep, which is the limit", limit=MAX_DEPTH
        )


def _check_text(data: bytes, what: str) -> None:
    if data.isascii():
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{what} is no JSON: {error}") from error


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _cut(message: str) -> str:
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[:LONGEST_MESSAGE]}... ({len(message) - LONGEST_MESSAGE} more characters)"


def _pause(seconds: float | None) -> float | None:
    if seconds is None or 0 <= seconds <= LONGEST_PAUSE:
        return seconds
    return 0.0 if seconds < 0 else LONGEST_PAUSE


def _details(details: dict[str, Any]) -> dict[str, Any]:
    if not details or len(msgspec.json.encode(details)) <= LARGEST_DETAILS:
        return details
    return {"left_out": f"more than {LARGEST_DETAILS} bytes of details"}
