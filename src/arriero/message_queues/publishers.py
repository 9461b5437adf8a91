"""The documented mixin for whatever publishes messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from arriero.message_queues.base import MessageQueue, PublishCallback
from arriero.types.messages import QueueMessage


class MessageQueuePublisherMixin(ABC):
    """Publishes under its own id, and to the topic that ``get_topic`` gives for a message's type."""

    @property
    @abstractmethod
    def publisher_id(self) -> str: ...

    @property
    @abstractmethod
    def message_queue(self) -> MessageQueue: ...

    @property
    def publish_callback(self) -> PublishCallback | None:
        """Called with each message that was published."""
        return None

    def get_topic(self, msg_type: str) -> str:
        """The topic for messages of a type."""
        return msg_type

    async def publish(self, message: QueueMessage, **kwargs: Any) -> Any:
        """Publish a message, with this publisher's id in it."""
        message.publisher_id = self.publisher_id
        return await self.message_queue.publish(
            message, callback=self.publish_callback, topic=self.get_topic(message.type), **kwargs
        )
