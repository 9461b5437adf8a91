"""Documented names of consumers; they are defined in ``arriero.message_queues``."""

from arriero.message_queues.consumers import (
    BaseMessageQueueConsumer,
    CallableMessageConsumer,
    RemoteMessageConsumer,
    RemoteMessageConsumerDef,
)

__all__ = ["BaseMessageQueueConsumer", "CallableMessageConsumer", "RemoteMessageConsumer", "RemoteMessageConsumerDef"]
