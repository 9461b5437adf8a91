"""Documented names of publishers; they are defined in ``arriero.message_queues``."""

from arriero.message_queues.base import PublishCallback
from arriero.message_queues.publishers import MessageQueuePublisherMixin

__all__ = ["MessageQueuePublisherMixin", "PublishCallback"]
