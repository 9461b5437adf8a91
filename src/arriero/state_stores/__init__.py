"""State stores: what is known, kept as versioned documents and append-only logs.

Names are loaded from their modules when they are first used, so that one backend does not load another.
"""

from typing import TYPE_CHECKING

__all__ = ["MemoryStore", "SqliteStore", "StateStore", "open_store", "store_from_uri"]

if TYPE_CHECKING:
    from arriero.state_stores.base import StateStore
    from arriero.state_stores.memory import MemoryStore
    from arriero.state_stores.sqlite import SqliteStore
    from arriero.state_stores.table import open_store, store_from_uri
else:
    _MODULE_OF = {
        "MemoryStore": "memory",
        "SqliteStore": "sqlite",
        "StateStore": "base",
        "open_store": "table",
        "store_from_uri": "table",
    }

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value
