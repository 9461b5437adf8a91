"""The SDK: requests built without I/O, and the shells that send them."""

from arriero.client.asynchronous import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.client.entries import TaskEntry
from arriero.client.sdk import Client
from arriero.client.settings import ClientSettings
from arriero.client.synchronous import LlamaDeployClient, SessionClient

__all__ = [
    "AsyncLlamaDeployClient",
    "AsyncSessionClient",
    "Client",
    "ClientSettings",
    "LlamaDeployClient",
    "SessionClient",
    "TaskEntry",
]
