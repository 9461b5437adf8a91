"""The documented place of the keys that an orchestrator writes into a session's state."""

from arriero.orchestrators.base import get_result_key, get_stream_key

__all__ = ["get_result_key", "get_stream_key"]
