"""The documented place of the methods that a control plane has."""

from arriero.control_plane.server import ControlPlaneServer

#: There is one kind of control plane.
BaseControlPlane = ControlPlaneServer

__all__ = ["BaseControlPlane"]
