"""The documented place of what every consumer has in common."""

from arriero.message_queues.base import StartConsumingCallable
from arriero.message_queues.consumers import BaseMessageQueueConsumer, default_start_consuming_callable

__all__ = ["BaseMessageQueueConsumer", "StartConsumingCallable", "default_start_consuming_callable"]
