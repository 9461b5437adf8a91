"""The simple message queue: a server that holds topics in memory, and its client. Loaded part by part."""

from typing import TYPE_CHECKING

__all__ = [
    "SimpleMessageQueue",
    "SimpleMessageQueueConfig",
    "SimpleMessageQueueServer",
    "SimpleRemoteClientMessageQueue",
]

if TYPE_CHECKING:
    from arriero.message_queues.simple.client import SimpleMessageQueue, SimpleRemoteClientMessageQueue
    from arriero.message_queues.simple.config import SimpleMessageQueueConfig
    from arriero.message_queues.simple.server import SimpleMessageQueueServer
else:
    _MODULE_OF = {
        "SimpleMessageQueue": "client",
        "SimpleMessageQueueConfig": "config",
        "SimpleMessageQueueServer": "server",
        "SimpleRemoteClientMessageQueue": "client",
    }

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
