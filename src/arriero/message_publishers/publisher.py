"""The documented place of the mixin for publishers."""

from arriero.message_queues.base import PublishCallback
from arriero.message_queues.publishers import MessageQueuePublisherMixin

__all__ = ["MessageQueuePublisherMixin", "PublishCallback"]
