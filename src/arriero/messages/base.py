"""The documented place of messages."""

from arriero.types.messages import QueueMessage, QueueMessageStats

__all__ = ["QueueMessage", "QueueMessageStats"]
