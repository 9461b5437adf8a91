"""The documented place of the functions that deploy."""

from arriero.deploy.core import deploy_core
from arriero.deploy.services import deploy_workflow

__all__ = ["deploy_core", "deploy_workflow"]
