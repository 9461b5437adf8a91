"""Which store a URI names."""

from __future__ import annotations

from arriero.state_stores.base import StateStore
from arriero.types.errors import ConfigurationError

#: How each kind of store is written.
FORMS = ("sqlite:///relative/path.db", "sqlite:////absolute/path.db", "memory:")
#: Schemes of stores that a later version will have.
PLANNED = frozenset({"postgres", "postgresql", "redis", "rediss", "unix"})


def open_store(uri: str) -> StateStore:
    """The store that the URI names, not yet open: enter it as a context manager, or await its ``open()``.

    ``sqlite:///state.db`` is relative to the working directory, ``sqlite:////var/state.db`` is absolute; ``memory:``
    is a new store that is lost with its object. Anything else is a :class:`ConfigurationError`.
    """
    if not isinstance(uri, str):
        raise ConfigurationError(f"a {type(uri).__name__} is no state store; set state_store_uri to {_choice()}")
    scheme, colon, rest = uri.partition(":")
    scheme = scheme.lower()
    if not colon:
        raise ConfigurationError(f"state_store_uri {uri!r} has no scheme; set it to {_choice()}")
    if scheme == "sqlite":
        return _sqlite(rest)
    if scheme == "memory":
        return _memory(rest)
    if scheme in PLANNED:
        raise ConfigurationError(f"{scheme} is not available in this version; set state_store_uri to {_choice()}")
    raise ConfigurationError(f"{scheme} is no kind of state store; set state_store_uri to {_choice()}")


#: The same under the name that says what it takes.
store_from_uri = open_store


def _sqlite(rest: str) -> StateStore:
    from arriero.state_stores.sqlite import SqliteStore

    path = rest.removeprefix("///")
    if path == rest or path in ("", ":memory:") or path.endswith("/") or "?" in path or "\0" in path:
        raise ConfigurationError(f"state_store_uri 'sqlite:{rest}' names no file; set it to {_choice()}")
    return SqliteStore(path)


def _memory(rest: str) -> StateStore:
    from arriero.state_stores.memory import MemoryStore

    if rest.strip("/"):
        raise ConfigurationError(f"a memory store takes no more than its scheme; set state_store_uri to {_choice()}")
    return MemoryStore()


def _choice() -> str:
    return f"{', '.join(FORMS[:-1])} or {FORMS[-1]}"
