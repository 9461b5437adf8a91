"""State stores: what is known, kept as versioned documents and append-only logs."""

from arriero.state_stores.base import StateStore
from arriero.state_stores.table import open_store, store_from_uri

__all__ = ["StateStore", "open_store", "store_from_uri"]
