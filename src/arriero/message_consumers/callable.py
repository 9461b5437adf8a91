"""The documented place of consumers that call a function."""

from arriero.message_queues.consumers import CallableMessageConsumer

__all__ = ["CallableMessageConsumer"]
