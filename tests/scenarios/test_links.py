"""The link of a worker in another process, frame by frame."""

import asyncio
import logging
from typing import Any

import pytest

from arriero import ControlPlaneConfig, ControlPlaneServer, SimpleMessageQueue
from arriero.services.link import WebSocketLink
from arriero.state_stores.memory import MemoryStore
from arriero.types.errors import Fenced, InternalError
from arriero.types.link import Event, Hello, Report, to_json
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
