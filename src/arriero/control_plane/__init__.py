"""The HTTP face of the core, and the server end of workers' links."""

from arriero.control_plane.server import CONTROL_PLANE_MESSAGE_TYPE, ControlPlaneServer
from arriero.types.settings import ControlPlaneConfig

__all__ = ["CONTROL_PLANE_MESSAGE_TYPE", "ControlPlaneConfig", "ControlPlaneServer"]
