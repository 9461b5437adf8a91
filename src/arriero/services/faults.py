"""What a handler raised, as it is recorded; and whether another attempt may help."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from arriero.types.errors import ArrieroError, ErrorInfo
from arriero.types.jsonvalue import to_json_value

T = TypeVar("T")

#: Characters of an error's message that are kept.
LONGEST = 10_000
#: The longest pause that an error may ask for before the next attempt, in seconds.
LONGEST_PAUSE = 86_400.0
TOO_MANY = 429
SERVER_ERRORS = 500


def error_info(error: BaseException) -> ErrorInfo:
    """The record of a handler's exception: its class and message, never its traceback.

    An exception is a user's code too: whatever is wrong with it must not lose what it says.
    """
    step = _asked(lambda: getattr(error, "step", None))
    cause = _asked(lambda: getattr(error, "cause", None))
    if isinstance(cause, BaseException):
        error = cause
    info = _asked(error.info) if isinstance(error, ArrieroError) else None
    if not isinstance(info, ErrorInfo):
        info = ErrorInfo(
            code="handler_error",
            message=_asked(lambda: str(error)) or "",
            retryable=_asked(lambda: may_pass(error)) or False,
            retry_after=_asked(lambda: _retry_after(error)),
        )
    kind = bounded(info.type or type(error).__name__)
    details = _asked(lambda: to_json_value(dict(info.details), "details")) or {}
    if isinstance(step, str):
        details = {**details, "step": step}
    return msgspec.structs.replace(info, type=kind, message=bounded(info.message) or kind, details=details)


def shown(error: BaseException) -> str:
    """Its traceback, as long as it can be read."""
    text = _asked(lambda: "".join(traceback.format_exception(error))) or type(error).__name__
    return _whole(text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}\n...\n{text[-LONGEST // 2 :]}")


def bounded(text: str) -> str:
    """The text as it can be stored and shown."""
    return _whole(text if len(text) <= LONGEST else text[:LONGEST] + "...")


def _whole(text: str) -> str:
    """The text without halves of characters, which no file and no frame takes."""
    return text.encode("utf-8", "replace").decode()


def _asked(question: Callable[[], T]) -> T | None:
    """What an exception says of itself, if it can."""
    try:
        return question()
    except BaseException:  # noqa: BLE001  # its own code may raise whatever it likes
        return None


def may_pass(error: BaseException) -> bool:
    """Connection errors, timeouts of what was called, 429 and 5xx answers; everything else is final."""
    if isinstance(error, ArrieroError):
        return error.retryable
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    status = _status(error)
    return status is not None and (status == TOO_MANY or status >= SERVER_ERRORS)


def _status(error: BaseException) -> int | None:
    """The HTTP status that client libraries attach to their exceptions."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status"):
            value: Any = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def _retry_after(error: BaseException) -> float | None:
    value: Any = getattr(error, "retry_after", None)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < LONGEST_PAUSE else None
