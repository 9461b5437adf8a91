"""What a handler raised, as it is recorded; and whether another attempt may help."""

from __future__ import annotations

from typing import Any

from arriero.types.errors import ArrieroError, ErrorInfo

TOO_MANY = 429
SERVER_ERRORS = 500


def error_info(error: BaseException) -> ErrorInfo:
    """The record of a handler's exception: its class and message, never its traceback."""
    step = getattr(error, "step", None)
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        error = cause
    if isinstance(error, ArrieroError):
        info = error.info()
    else:
        info = ErrorInfo(
            code="handler_error",
            type=type(error).__name__,
            message=str(error) or type(error).__name__,
            retryable=may_pass(error),
            retry_after=_retry_after(error),
        )
    if step:
        info.details = {**info.details, "step": step}
    return info


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
    value = getattr(error, "retry_after", None)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
