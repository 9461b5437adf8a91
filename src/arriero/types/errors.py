"""Every error that Arriero raises, as one tree.

::

    ArrieroError
    ├── InvalidInput (ValueError)            what was sent cannot be read
    │   ├── NotJSON                          a value that JSON cannot hold as it is
    │   ├── UnknownEvent                     an event that the service does not take; names those it does
    │   ├── TooDeep                          services that call one another beyond the limit named
    │   ├── PayloadTooLarge                  it is larger than the limit named
    │   └── HeadTooLarge                     the headers of a request are
    ├── NotFound (ValueError)
    │   ├── UnknownService                   names the services that are known
    │   ├── UnknownSession
    │   └── UnknownTask
    ├── Conflict                             it is there already, and it is different
    │   ├── TaskConflict                     same id or idempotency key, other body
    │   ├── AlreadyAnswered                  what was asked has its answer
    │   ├── AlreadyEnded                     the task has ended and takes nothing more
    │   ├── NotEnded                         the task goes on, so it cannot be begun anew
    │   ├── NotStopped                       the task does not wait for a changed workflow
    │   ├── WorkflowChanged                  a run was begun by a workflow of other steps
    │   ├── StateConflict                    a commit met a newer version
    │   └── LogEnded                         an append to a log that has ended
    ├── Fenced                               the claim token is not the newest
    ├── Refused                              the request itself may be right, who sends it may not
    │   ├── Unauthorized                     no bearer token, or an unknown one
    │   ├── Forbidden                        the token lacks the scope, or a web page of elsewhere asks
    │   └── Misdirected                      its Host names another server
    ├── ConfigurationError (ValueError)      it cannot be set up this way
    │   ├── BindRefused                      an address that others could reach
    │   └── MissingDependency (ImportError)  names the extra to install
    ├── Unavailable (ConnectionError)        transient: try again
    │   ├── ControlPlaneUnavailable
    │   ├── QueueUnavailable
    │   ├── QueueFull                        too much work waits for a service
    │   ├── StoreUnavailable
    │   └── TooManyStreams                   as many are open as may be
    ├── AlreadyInUse                         a port or a database with another owner
    ├── StoreDamaged                         a stored record that cannot be read
    ├── ProtocolError                        a frame or message that breaks its contract
    ├── InternalError                        a fault of a server itself
    ├── TransientError                       raise it in a handler to be tried again
    ├── WaitTimeout (TimeoutError)           the client stopped waiting; the task goes on
    └── TaskError                            how a task ended, when not in success
        ├── TaskFailed
        ├── TaskCancelled
        ├── TaskTimedOut (TimeoutError)
        └── TaskDead

An error travels as :class:`ErrorInfo`; :func:`error_from_info` is the inverse of :meth:`ArrieroError.info`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class ErrorInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An error as it is stored and sent.

    ``code`` is stable and made for programs; ``type`` is the name of the exception's class where a
    handler raised it; ``message`` is made for people; ``details`` holds JSON values only.
    """

    code: str
    message: str
    type: str = ""
    retryable: bool = False
    retry_after: float | None = None
    details: dict[str, Any] = {}


class ArrieroError(Exception):
    """Something that Arriero was asked for did not happen. The message names what, and what else is possible."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.details = details

    def info(self) -> ErrorInfo:
        """The error in the form in which it travels."""
        return ErrorInfo(
            code=self.code,
            type=type(self).__name__,
            message=self.message,
            retryable=self.retryable,
            retry_after=self.retry_after,
            details=self.details,
        )


class InvalidInput(ArrieroError, ValueError):
    """The request cannot be read. Correct the field that the message names."""

    code = "invalid_input"
    status = 422


class NotJSON(InvalidInput):
    """The value cannot be written as JSON. The message says where in it, what is there, and why; convert it first."""

    code = "not_json"


class UnknownEvent(InvalidInput):
    """The service takes no event of that type from outside. The message lists those it takes."""

    code = "unknown_event"


class TooDeep(InvalidInput):
    """Services call one another more levels deep than the limit allows. End the recursion, or raise the setting."""

    code = "too_deep"


class PayloadTooLarge(InvalidInput):
    """The value is larger than the limit. Send less, or raise the setting that the message names."""

    code = "payload_too_large"
    status = 413


class HeadTooLarge(InvalidInput):
    """The line and headers of the request are too large or too many. What is large belongs into a body."""

    code = "head_too_large"
    status = 431


class NotFound(ArrieroError, ValueError):
    """There is nothing of that name. The message lists what there is."""

    code = "not_found"
    status = 404


class UnknownService(NotFound):
    """No worker or deployment ever registered a service of that name. Check the name, or start its worker."""

    code = "unknown_service"


class UnknownSession(NotFound):
    """There is no session of that id. Create one first; it may also have been deleted."""

    code = "unknown_session"


class UnknownTask(NotFound):
    """There is no task of that id. It may have been deleted with its session."""

    code = "unknown_task"


class Conflict(ArrieroError):
    """It exists already and is not the same."""

    code = "conflict"
    status = 409


class TaskConflict(Conflict):
    """A task with this id or idempotency key exists with another body. Use a new id or key."""

    code = "task_conflict"


class AlreadyAnswered(Conflict):
    """Whatever the task asked for has been answered. Only the first answer counts."""

    code = "already_answered"


class AlreadyEnded(Conflict):
    """The task has ended, so nothing can be sent to it any more."""

    code = "already_ended"


class NotEnded(Conflict):
    """The task has not ended yet. Wait for its end, or cancel it."""

    code = "not_ended"


class NotStopped(Conflict):
    """The task does not wait because its workflow has changed, so there is nothing to resume or to restart."""

    code = "not_stopped"


class WorkflowChanged(Conflict):
    """The run was begun by a version of its workflow that had other steps. Resume, restart or cancel it."""

    code = "workflow_changed"


class StateConflict(Conflict):
    """A document changed since it was read. Read it again and decide again."""

    code = "state_conflict"


class LogEnded(Conflict):
    """The log has ended; nothing can be appended to it."""

    code = "log_ended"


class Fenced(ArrieroError):
    """Another claim on this item is newer, or the item has ended. Stop working on it."""

    code = "fenced"
    status = 409


class Refused(ArrieroError):
    """Whoever asks may not. Nothing of the request was read."""

    code = "refused"
    status = 403


class Unauthorized(Refused):
    """A bearer token is needed, and there was none or an unknown one. Set ``ARRIERO_TOKEN`` to one that is known."""

    code = "unauthorized"
    status = 401


class Forbidden(Refused):
    """The token lacks the scope that the message names, or the request comes from a web page of another origin."""

    code = "forbidden"


class Misdirected(Refused):
    """The ``Host`` of the request is no name of this server; if it should be, set ``CONTROL_PLANE_ALLOWED_HOSTS``."""

    code = "misdirected"
    status = 421


class ConfigurationError(ArrieroError, ValueError):
    """It cannot be set up this way. The message names the setting and the valid values."""

    code = "configuration"
    status = 400


class BindRefused(ConfigurationError):
    """Listening beyond loopback needs a token. Set ``ARRIERO_TOKENS`` or ``ARRIERO_TOKENS_FILE``, or use 127.0.0.1."""

    code = "bind_refused"


class MissingDependency(ConfigurationError, ImportError):
    """An optional package is not installed. The message holds the install command."""

    code = "missing_dependency"


class Unavailable(ArrieroError, ConnectionError):
    """A part that is needed does not answer now. Try again later."""

    code = "unavailable"
    status = 503
    retryable = True


class ControlPlaneUnavailable(Unavailable):
    """The control plane does not answer. Check its address, or start it with ``python -m arriero core``."""

    code = "control_plane_unavailable"


class QueueUnavailable(Unavailable):
    """The message queue does not answer. Check its address, or start it."""

    code = "queue_unavailable"


class QueueFull(Unavailable):
    """As many items as allowed wait for the service. Try again later, add workers, or raise ``max_queue``."""

    code = "queue_full"
    status = 429


class StoreUnavailable(Unavailable):
    """The state store does not answer, so nothing is accepted. Check its disk or server."""

    code = "store_unavailable"


class TooManyStreams(Unavailable):
    """As many streams are open as the setting allows that the message names. Try again when one has ended."""

    code = "too_many_streams"


class AlreadyInUse(ArrieroError):
    """A port or a database belongs to another process. The message names it and its owner."""

    code = "already_in_use"
    status = 409


class StoreDamaged(ArrieroError):
    """A stored record cannot be read. Only what it belongs to is affected."""

    code = "store_damaged"


class ProtocolError(ArrieroError):
    """A frame or message breaks its contract."""

    code = "protocol_error"
    status = 400


class InternalError(ArrieroError):
    """A server met a fault of its own. Its log has the traceback."""

    code = "internal"


class TransientError(ArrieroError):
    """Raise it in a handler when another attempt may succeed; ``retry_after`` is the least wait in seconds."""

    code = "transient"
    status = 503
    retryable = True


class WaitTimeout(ArrieroError, TimeoutError):
    """The client's own timeout passed. The task goes on; ask for its result later."""

    code = "wait_timeout"
    status = 504


class TaskError(ArrieroError):
    """How a task ended, when it did not complete. ``error`` is what was recorded."""

    code = "task_error"
    task_status: ClassVar[str] = ""

    def __init__(self, message: str, *, error: ErrorInfo | None = None, task_id: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.error = error
        self.task_id = task_id

    def info(self) -> ErrorInfo:
        return self.error if self.error is not None else super().info()


class TaskFailed(TaskError):
    """The handler said no, and its retries are used up. ``error`` holds the type and message of its exception."""

    code = "task_failed"
    task_status = "failed"


class TaskCancelled(TaskError):
    """The task was cancelled."""

    code = "task_cancelled"
    task_status = "cancelled"


class TaskTimedOut(TaskError, TimeoutError):
    """The task's deadline passed. The message names the limit and the setting."""

    code = "task_timed_out"
    task_status = "timed_out"


class TaskDead(TaskError):
    """Too many workers were lost while they ran this task, and none reported."""

    code = "task_dead"
    task_status = "dead"


def _tree(root: type[ArrieroError]) -> list[type[ArrieroError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


#: Every class of the tree under its ``code``.
ERRORS: dict[str, type[ArrieroError]] = {cls.code: cls for cls in _tree(ArrieroError)}

#: The exception for each status that is an unsuccessful end.
TASK_ERRORS: dict[str, type[TaskError]] = {
    cls.task_status: cls for cls in (TaskFailed, TaskCancelled, TaskTimedOut, TaskDead)
}


#: The refusal for each status with which a connection that stays open may be answered.
REFUSALS: dict[int, type[Refused]] = {cls.status: cls for cls in (Unauthorized, Forbidden, Misdirected)}


def error_from_info(info: ErrorInfo) -> ArrieroError:
    """Rebuild the exception that an :class:`ErrorInfo` came from; an unknown code gives :class:`ArrieroError`."""
    cls = ERRORS.get(info.code, ArrieroError)
    if issubclass(cls, TaskError):
        return cls(info.message, error=info)
    error = cls(info.message, retry_after=info.retry_after)
    error.details = dict(info.details)
    return error
