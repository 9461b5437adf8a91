"""Wiring: from settings to a running system."""

from arriero.deploy.core import deploy_core
from arriero.deploy.services import deploy_function, deploy_service, deploy_workflow

__all__ = ["deploy_core", "deploy_function", "deploy_service", "deploy_workflow"]
