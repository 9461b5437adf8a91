"""The table of the queues that there are, by the ``type`` of their configurations; each is imported when it is used."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from arriero.message_queues.base import MessageQueue
from arriero.types.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a queue is: its module, and in that the class of its configuration and its own, made from the former."""

    module: str
    config: str
    queue: str


BACKENDS = {
    "memory": Backend("arriero.message_queues.memory", "MemoryMessageQueueConfig", "MemoryMessageQueue"),
    "simple": Backend("arriero.message_queues.simple", "SimpleMessageQueueConfig", "SimpleMessageQueue"),
}


def queue_from_config(config: BaseModel) -> MessageQueue:
    """The queue that a configuration describes, not yet connected.

    Errors: ``ConfigurationError`` for a configuration of no known type.
    """
    backend = _backend(str(getattr(config, "type", type(config).__name__)))
    queue: MessageQueue = getattr(import_module(backend.module), backend.queue)(config)
    return queue


def label_of(config: BaseModel) -> str:
    """How a log names the queue of a configuration: its kind and address, without what may hold credentials."""
    kind = type(config).__name__.removesuffix("Config")
    address = urlsplit(str(getattr(config, "base_url", None) or getattr(config, "url", None) or ""))
    place = f"{address.scheme}://{address.netloc.rpartition('@')[2]}" if address.netloc else ""
    return f"{kind} at {place}" if place else kind


def config_from_mapping(values: Mapping[str, Any]) -> BaseModel:
    """The configuration in a mapping: ``type``, and fields of that type; the others come from the environment.

    ``{"<ConfigClassName>": {...}}``, as a control plane reports it, is read too. Errors: ``ConfigurationError``.
    """
    if "type" not in values and len(values) == 1 and isinstance(inner := next(iter(values.values())), Mapping):
        name, fields = next(iter(values)), inner
    else:
        name, fields = str(values.get("type", "")), values
    backend = _backend(name)
    config_class: type[BaseModel] = getattr(import_module(backend.module), backend.config)
    try:
        return config_class(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigurationError(f"message_queue: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _backend(name: str) -> Backend:
    names = {backend.config: backend for backend in BACKENDS.values()} | BACKENDS
    if name in names:
        return names[name]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigurationError(f"There is no message queue of type {name!r}; there are {', '.join(BACKENDS)}.{hint}")
