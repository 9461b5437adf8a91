"""The documented place of the control plane's settings."""

from arriero.types.settings import ControlPlaneConfig

__all__ = ["ControlPlaneConfig"]
