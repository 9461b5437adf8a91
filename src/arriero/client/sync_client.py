"""The documented place of the synchronous clients."""

from arriero.client.synchronous import LlamaDeployClient, SessionClient

__all__ = ["LlamaDeployClient", "SessionClient"]
