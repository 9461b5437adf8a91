"""The documented place of the SDK's client."""

from arriero.client.sdk import Client

__all__ = ["Client"]
