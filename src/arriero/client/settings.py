"""Settings of the client's connections."""

from __future__ import annotations

from functools import cache

from pydantic import Field

from arriero.types.credentials import CredentialSettings

#: Most connections by default, however many files a process may open.
MOST_CONNECTIONS = 4096


def half_of_open_files() -> int:
    """Half of what the process may open, so that the client never takes the last file from the program around it."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MOST_CONNECTIONS, soft // 2))


class ClientSettings(CredentialSettings):
    """The connections of clients, and their token; environment prefix ``ARRIERO_CLIENT_``. Durations are in seconds."""

    #: Connections to one control plane, from one event loop; streams are not counted. The default is half of the
    #: process's limit on open files. More requests than that take turns.
    max_connections: int = Field(default_factory=half_of_open_files, ge=1)
    #: Whether the certificate of a control plane with TLS is checked.
    verify_tls: bool = True
    #: How long the control plane may take to accept a connection.
    connect_timeout: float = Field(default=5.0, gt=0)
    #: How long an idle connection is kept.
    keep_alive: float = Field(default=15.0, gt=0)
    #: How long the answer to a request that waits for nothing may take.
    answer_timeout: float = Field(default=60.0, gt=0)
    #: How long one request waits for a result before another one goes on waiting.
    longest_wait: float = Field(default=30.0, gt=0)
    #: How long a stream may be silent, its keep-alives included, before it is taken for lost and resumed.
    stream_silence: float = Field(default=60.0, gt=0)


#: Seconds beyond a wait within which its answer must come, and beyond the limit of the whole call.
ANSWER_AFTER_WAIT = 5.0
ANSWER_AFTER_LIMIT = 0.5


def answer_within(settings: ClientSettings, wait: float | None, left: float | None) -> float:
    """Seconds that one attempt may take, which waits for ``wait`` seconds, of a call that has ``left`` seconds."""
    total = settings.answer_timeout if wait is None else wait + ANSWER_AFTER_WAIT
    return total if left is None else min(total, max(left, 0.0) + ANSWER_AFTER_LIMIT)


@cache
def default_settings() -> ClientSettings:
    """The settings of this process's environment, read once."""
    return ClientSettings()
