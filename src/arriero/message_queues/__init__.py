"""Message queues: the port, its backends, and the documented consumers and publishers.

Names are loaded from their modules when they are first used, so that one backend does not load another.
"""

from typing import TYPE_CHECKING

__all__ = [
    "AbstractMessageQueue",
    "BaseMessageQueue",
    "BaseMessageQueueConsumer",
    "CallableMessageConsumer",
    "Capabilities",
    "DeadLetter",
    "Delivery",
    "MemoryMessageQueue",
    "MemoryMessageQueueConfig",
    "MessageQueue",
    "MessageQueuePublisherMixin",
    "PublishCallback",
    "RemoteMessageConsumer",
    "RemoteMessageConsumerDef",
    "SimpleMessageQueue",
    "SimpleMessageQueueConfig",
    "SimpleMessageQueueServer",
    "StartConsumingCallable",
    "Subscription",
    "config_from_mapping",
    "queue_from_config",
]

if TYPE_CHECKING:
    from arriero.message_queues.backends import config_from_mapping, queue_from_config
    from arriero.message_queues.base import (
        AbstractMessageQueue,
        BaseMessageQueue,
        Capabilities,
        DeadLetter,
        Delivery,
        MessageQueue,
        PublishCallback,
        StartConsumingCallable,
        Subscription,
    )
    from arriero.message_queues.consumers import (
        BaseMessageQueueConsumer,
        CallableMessageConsumer,
        RemoteMessageConsumer,
        RemoteMessageConsumerDef,
    )
    from arriero.message_queues.memory import MemoryMessageQueue, MemoryMessageQueueConfig
    from arriero.message_queues.publishers import MessageQueuePublisherMixin
    from arriero.message_queues.simple import (
        SimpleMessageQueue,
        SimpleMessageQueueConfig,
        SimpleMessageQueueServer,
    )
else:
    _MODULES = {
        "backends": ["config_from_mapping", "queue_from_config"],
        "base": [
            "AbstractMessageQueue",
            "BaseMessageQueue",
            "Capabilities",
            "DeadLetter",
            "Delivery",
            "MessageQueue",
            "PublishCallback",
            "StartConsumingCallable",
            "Subscription",
        ],
        "consumers": [
            "BaseMessageQueueConsumer",
            "CallableMessageConsumer",
            "RemoteMessageConsumer",
            "RemoteMessageConsumerDef",
        ],
        "memory": ["MemoryMessageQueue", "MemoryMessageQueueConfig"],
        "publishers": ["MessageQueuePublisherMixin"],
        "simple": ["SimpleMessageQueue", "SimpleMessageQueueConfig", "SimpleMessageQueueServer"],
    }
    _MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
