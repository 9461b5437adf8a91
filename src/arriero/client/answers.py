"""What the control plane answers, as results and as typed errors."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from arriero.types.errors import (
    TASK_ERRORS,
    ArrieroError,
    Conflict,
    ControlPlaneUnavailable,
    ErrorInfo,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    ProtocolError,
    TaskError,
    error_from_info,
)
from arriero.types.tasks import TaskStatus

LONGEST_EXCERPT = 200
SERVER_FAULT = 500


class Ended(msgspec.Struct):
    """How a task stands: what ``run()`` needs of a ``TaskResult``, read without building the model.

    One that goes on may say by ``reason`` why nobody works on it.
    """

    task_id: str
    status: TaskStatus = TaskStatus.COMPLETED
    result: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorInfo | None = None
    reason: str | None = None

    def text(self) -> str:
        """The result as text, or the error that the end stands for."""
        if self.status is TaskStatus.COMPLETED:
            return self.result
        raise end_error(self.task_id, self.status, self.error)

    def json(self) -> Any:
        """The result as the JSON value that it is, or the error that the end stands for."""
        self.text()
        return msgspec.json.decode(self.value)


#: The end of a task, or how it stands; None when nothing more is said than that it goes on.
read_ended = msgspec.json.Decoder(Ended | None).decode


def end_error(task_id: str, status: TaskStatus, error: ErrorInfo | None) -> TaskError:
    """The exception for a task that ended without success."""
    cls = TASK_ERRORS.get(status, TaskError)
    message = f"task {task_id} {_ENDINGS.get(status, status)}"
    if error is not None:
        message += f": {error.message}" if error.type in ("", cls.__name__) else f": {error.type}: {error.message}"
    return cls(message, error=error, task_id=task_id)


_ENDINGS = {TaskStatus.CANCELLED: "was cancelled", TaskStatus.TIMED_OUT: "timed out", TaskStatus.DEAD: "is dead"}


class _Refusal(msgspec.Struct):
    error: ErrorInfo | None = None
    detail: Any = None


_refusal = msgspec.json.Decoder(_Refusal).decode

#: What an answer without an error of ours means. Gateways give 502 to 504 while the control plane behind is away.
_BY_STATUS: dict[int, type[ArrieroError]] = {
    400: InvalidInput,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    422: InvalidInput,
    502: ControlPlaneUnavailable,
    503: ControlPlaneUnavailable,
    504: ControlPlaneUnavailable,
}


def refusal(status: int, what: str, body: bytes) -> ArrieroError:
    """The error that a status other than 2xx stands for; ``what`` names the request, without its query."""
    try:
        said = _refusal(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = _Refusal()
    if said.error is not None:
        return error_from_info(said.error)
    text = excerpt(body) if said.detail is None else _detail(said.detail)
    cls = _BY_STATUS.get(status, ArrieroError if status >= SERVER_FAULT else ProtocolError)
    again = 0.0 if cls is ControlPlaneUnavailable else None
    return cls(f"{what} was answered with status {status}: {text}", retry_after=again, http_status=status)


def unreadable(status: int, what: str, body: bytes, reason: Exception) -> ProtocolError:
    """The error for an answer of success that cannot be read."""
    kind = type(reason).__name__
    return ProtocolError(f"{what} was answered with status {status} and what cannot be read ({kind}): {excerpt(body)}")


def excerpt(body: bytes) -> str:
    """The beginning of a body in one printable line, without what looks like a credential."""
    text = " ".join(body[: 4 * LONGEST_EXCERPT].decode("utf-8", "replace").split())
    for pattern, instead in _CREDENTIALS:
        text = pattern.sub(instead, text)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return (text if len(text) <= LONGEST_EXCERPT else text[:LONGEST_EXCERPT] + "...") or "(nothing)"


_HIDDEN = "password|passwd|secret|token|api[_-]?key|authorization|cookie"
_CREDENTIALS = (
    (re.compile(r"(\w://)[^/\s@]*@"), r"\1***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;<]+"), r"\1 ***"),
    (re.compile(rf"(?i)([\w-]*(?:{_HIDDEN})[\w-]*\W{{1,8}})[^\s\"',;&<}}]+"), r"\1***"),
)


def _detail(detail: Any) -> str:
    """The text of a ``detail``: a sentence, or the list that a validation gives."""
    if isinstance(detail, list) and detail and all(isinstance(item, dict) for item in detail):
        parts = (f"{'.'.join(map(str, item.get('loc') or ()))}: {item.get('msg')}" for item in detail[:5])
        return excerpt("; ".join(parts).encode("utf-8", "replace"))
    text = detail if isinstance(detail, str) else msgspec.json.encode(detail).decode()
    return excerpt(text.encode("utf-8", "replace"))
