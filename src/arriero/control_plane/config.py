"""The documented place of the control plane's settings."""

from arriero.state_stores import open_store
from arriero.types.settings import ControlPlaneConfig

#: The state store of an address, for ``ControlPlaneServer(state_store=...)``.
parse_state_store_uri = open_store

__all__ = ["ControlPlaneConfig", "parse_state_store_uri"]
