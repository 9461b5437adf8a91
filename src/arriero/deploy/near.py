"""Control planes that run in this process, so that what is deployed beside one needs no network to reach it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from arriero.control_plane import ControlPlaneServer
from arriero.message_queues.base import MessageQueue
from arriero.types.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Near:
    """A control plane and its queue, usable from one event loop."""

    server: ControlPlaneServer
    queue: MessageQueue
    loop: asyncio.AbstractEventLoop


_running: dict[str, Near] = {}


@contextmanager
def announced(server: ControlPlaneServer) -> Iterator[None]:
    """Findable by :func:`find` meanwhile."""
    url = server.url
    if server.message_queue is None:
        raise ConfigurationError("a control plane that is deployed has a message queue")
    _running[url] = Near(server, server.message_queue, asyncio.get_running_loop())
    try:
        yield
    finally:
        _running.pop(url, None)


def find(url: str) -> Near | None:
    """The control plane of that address, when it runs in this very event loop."""
    near = _running.get(url)
    return near if near is not None and near.loop is asyncio.get_running_loop() else None
