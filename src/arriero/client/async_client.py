"""The documented place of the asynchronous clients."""

from arriero.client.asynchronous import AsyncLlamaDeployClient, AsyncSessionClient

__all__ = ["AsyncLlamaDeployClient", "AsyncSessionClient"]
