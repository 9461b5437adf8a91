"""The documented place of consumers in other processes."""

from arriero.message_queues.consumers import RemoteMessageConsumer, RemoteMessageConsumerDef

__all__ = ["RemoteMessageConsumer", "RemoteMessageConsumerDef"]
