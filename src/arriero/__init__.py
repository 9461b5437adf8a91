"""Run LlamaIndex workflows and agents as services."""

__version__ = "0.1.0"
