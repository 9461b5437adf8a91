"""Orchestrators: they decide what comes next for a task."""

from arriero.orchestrators.base import BaseOrchestrator, get_result_key, get_stream_key
from arriero.orchestrators.simple import SimpleOrchestrator, SimpleOrchestratorConfig

__all__ = [
    "BaseOrchestrator",
    "SimpleOrchestrator",
    "SimpleOrchestratorConfig",
    "get_result_key",
    "get_stream_key",
]
