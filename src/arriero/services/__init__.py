"""Services: the worker, what all of them share, and the kinds there are."""

from arriero.services.base import BaseService, ServiceOptions
from arriero.services.config import WorkflowServiceConfig
from arriero.services.worker import Worker, WorkerOptions
from arriero.services.workflow import FunctionService, WorkflowService

__all__ = [
    "BaseService",
    "FunctionService",
    "ServiceOptions",
    "Worker",
    "WorkerOptions",
    "WorkflowService",
    "WorkflowServiceConfig",
]
