"""Documented names of messages; they are defined in ``arriero.types``."""

from arriero.types.messages import QueueMessage, QueueMessageStats

__all__ = ["QueueMessage", "QueueMessageStats"]
