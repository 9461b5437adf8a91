"""The link of a worker in another process, frame by frame."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from arriero import ControlPlaneConfig, ControlPlaneServer, SimpleMessageQueue
from arriero.services.link import WebSocketLink
from arriero.state_stores.memory import MemoryStore
from arriero.types.errors import Fenced, InternalError
from arriero.types.link import Event, Hello, Report, to_json
from tests.harness import free_port
from tests.scenarios.system import beside


class Faulty(MemoryStore):
    """A store with a fault that nobody foresaw."""

    broken = False

    async def get(self, collection: str, key: str) -> Any:
        if self.broken:
            raise RuntimeError("password=hunter2")
        return await super().get(collection, key)


async def test_a_fault_of_the_control_plane_is_an_answer_and_the_link_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Faulty()
    server = ControlPlaneServer(SimpleMessageQueue(), state_store=store, config=ControlPlaneConfig(port=0))
    async with asyncio.timeout(10), beside(server.launch_server(), server.started.wait()):
        link = WebSocketLink(server.url)
        hello = Hello(worker_id="w", service="s", slots=1, free=1)
        await link.open(lambda: hello, lambda _: None, lambda _: None)
        try:
            store.broken = True
            with caplog.at_level(logging.ERROR), pytest.raises(InternalError, match="emit: RuntimeError") as emitted:
                await link.emit("i", "t", [Event(number=0, data=to_json({}))])
            with pytest.raises(InternalError, match="report: RuntimeError"):
                await link.report(Report(request=0, item_id="i", token="t"))
            store.broken = False
            with pytest.raises(Fenced):
                await link.emit("i", "t", [Event(number=0, data=to_json({}))])
        finally:
            await link.aclose()
    assert "hunter2" not in str(emitted.value)
    assert "Traceback" in caplog.text


@contextmanager
def warnings_of_services() -> Iterator[asyncio.Queue[str]]:
    """What services warn of, as it comes."""
    told: asyncio.Queue[str] = asyncio.Queue()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.put_nowait(record.getMessage())
    logger = logging.getLogger("arriero.services")
    logger.addHandler(handler)
    try:
        yield told
    finally:
        logger.removeHandler(handler)


async def test_a_worker_that_has_lost_its_control_plane_says_so_in_the_words_of_the_clients() -> None:
    config = ControlPlaneConfig(port=free_port())
    server = ControlPlaneServer(SimpleMessageQueue(), state_store=MemoryStore(), config=config)
    link = WebSocketLink(config.url)
    hello = Hello(worker_id="w", service="s", slots=1, free=1)
    with warnings_of_services() as told:
        async with beside(server.launch_server(), server.started.wait()):
            await link.open(lambda: hello, lambda _: None, lambda _: None)
        assert await told.get() == (
            f"Waiting for the control plane at {config.url}, which cannot be reached (connection refused): "
            "trying until it answers."
        )
        await link.aclose()
