"""The SDK: requests built without I/O, and the shells that send them."""

from arriero.client.asynchronous import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.client.settings import ClientSettings

__all__ = ["AsyncLlamaDeployClient", "AsyncSessionClient", "ClientSettings"]
