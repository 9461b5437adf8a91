"""The SDK: requests built without I/O, and the shells that send them."""

from arriero.client.asynchronous import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.client.entries import TaskEntry
from arriero.client.sdk import Client
from arriero.client.settings import ClientSettings
from arriero.client.synchronous import LlamaDeployClient, SessionClient
from arriero.types.history import DeadTask, HistoryEntry, HistoryItem, TaskHistory

__all__ = [
    "AsyncLlamaDeployClient",
    "AsyncSessionClient",
    "Client",
    "ClientSettings",
    "DeadTask",
    "HistoryEntry",
    "HistoryItem",
    "LlamaDeployClient",
    "SessionClient",
    "TaskEntry",
    "TaskHistory",
]
