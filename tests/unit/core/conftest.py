"""A core in memory, and workers that are driven by hand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from arriero.core.core import Core
from arriero.core.links import Link
from arriero.core.records import TaskRecord
from arriero.core.tasks import Submission
from arriero.message_queues import MemoryMessageQueue
from arriero.orchestrators import BaseOrchestrator, SimpleOrchestrator
from arriero.state_stores import StateStore, open_store
from arriero.types.errors import ErrorInfo
from arriero.types.ids import generate_id
from arriero.types.link import Call, Deliver, Event, Grant, Hello, Journal, Outcome, Push, Report, Stop, Wait
from arriero.types.settings import ControlPlaneConfig


class Hand:
    """A worker without a loop: the test claims, emits and reports for it."""

    def __init__(
        self,
        core: Core,
        service: str,
        slots: int = 8,
        *,
        parallel: bool = False,
        accepts: dict[str, bool] | None = None,
        **hello: Any,
    ) -> None:
        self.core = core
        self.worker_id = generate_id()
        self.service = service
        self.slots = slots
        self.parallel = parallel
        self.accepts = accepts or {}
        self.hello = hello
        self.stops: asyncio.Queue[Stop] = asyncio.Queue()
        self.delivered: asyncio.Queue[Deliver] = asyncio.Queue()
        self.held: dict[str, str] = {}
        self.stale: list[str] = []
        self.link: Link

    async def connect(self) -> Hand:
        hello = Hello(
            worker_id=self.worker_id,
            service=self.service,
            slots=self.slots,
            free=self.slots,
            parallel=self.parallel,
            held=self.held,
            accepts=self.accepts,
            **self.hello,
        )
        self.link, welcome = await self.core.links.attach(hello, self._pushed, local=False)
        self.stale = welcome.stop
        return self

    def _pushed(self, push: Push) -> None:
        if isinstance(push, Stop):
            self.stops.put_nowait(push)
        else:
            self.delivered.put_nowait(push)

    async def call(self, grant: Grant, service: str, key: str = "k", text: str = "{}") -> asyncio.Task[Outcome]:
        """Start a child; gives the task that waits for its outcome."""
        call = Call(request=0, item_id=grant.item_id, token=grant.token, key=key, service=service, input=text)
        child_id = await self.core.children.start(call)
        return asyncio.create_task(self.core.children.outcome(child_id), name=child_id)

    async def wait(self, grant: Grant, *events: str, **fields: Any) -> bool:
        frame = Wait(request=0, item_id=grant.item_id, token=grant.token, events=list(events), **fields)
        return await self.core.journals.wait(self.link, frame)

    async def record(
        self, grant: Grant, number: int, value: Any, *events: Event, shape: str = "s", **more: bool
    ) -> None:
        frame = Journal(
            request=0,
            item_id=grant.item_id,
            token=grant.token,
            number=number,
            entry=msgspec.Raw(msgspec.json.encode(value)),
            shape=shape,
            events=list(events),
            **more,
        )
        await self.core.journals.write(self.link, frame)

    async def claim(self, free: int = 1) -> list[Grant]:
        grants = await self.core.claims.claim(self.link, free)
        self.held.update({grant.item_id: grant.token for grant in grants})
        return grants

    async def emit(self, grant: Grant, *values: Any, first: int = 0) -> None:
        events = [event(first + offset, value) for offset, value in enumerate(values)]
        await self.core.claims.emit(self.link, grant.item_id, grant.token, events)

    async def complete(self, grant: Grant, value: Any = None, *events: Event, **more: Any) -> None:
        raw = msgspec.Raw(json.dumps(value).encode())
        await self._report(grant, value=raw, events=list(events), **more)

    async def fail(self, grant: Grant, *, retryable: bool = False, message: str = "no") -> None:
        await self._report(grant, error=ErrorInfo(code="handler_error", type="E", message=message, retryable=retryable))

    async def _report(self, grant: Grant, **fields: Any) -> None:
        report = Report(request=0, item_id=grant.item_id, token=grant.token, **fields)
        await self.core.claims.report(self.link, report)
        self.held.pop(grant.item_id, None)

    def vanish(self) -> None:
        """The connection closes."""
        self.core.links.detach(self.link)


def event(number: int, value: Any) -> Event:
    return Event(number=number, data=msgspec.Raw(json.dumps({"value": value}).encode()), type="Told")


class Clock:
    """Stands until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A core on a store that outlives it, with the shortcuts that tests use."""

    def __init__(
        self,
        store: StateStore,
        config: ControlPlaneConfig,
        orchestrator: BaseOrchestrator,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.queue = MemoryMessageQueue()
        self.config = config
        self.orchestrator = orchestrator
        self.clock = clock
        self.core = Core(store, self.queue, orchestrator, config, clock)

    async def restart(self) -> Core:
        """A new core on the same store, as after a crash."""
        await self.core.aclose()
        self.core = Core(self.store, self.queue, self.orchestrator, self.config, self.clock)
        return await self.core.start()

    async def worker(self, service: str = "work", **options: Any) -> Hand:
        return await Hand(self.core, service, **options).connect()

    async def submit(self, session: str, service: str = "work", text: str = "{}", **fields: Any) -> TaskRecord:
        return await self.core.tasks.submit(session, Submission(input=text, service_id=service, **fields))

    async def ended(self, task: TaskRecord) -> TaskRecord:
        return await self.core.tasks.wait(task, 30)

    async def stream(self, task: TaskRecord) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        async for page in self.core.streams.follow(task.id):
            entries += [json.loads(entry.value) for entry in page]
        return entries

    async def told(self, task: TaskRecord) -> list[Any]:
        return [entry["data"]["value"] for entry in await self.stream(task) if entry["kind"] == "event"]


MakeHouse = Callable[..., Awaitable[House]]


@pytest.fixture
async def make_house() -> AsyncIterator[MakeHouse]:
    async with AsyncExitStack() as stack:
        houses: list[House] = []

        async def make(
            orchestrator: BaseOrchestrator | None = None,
            clock: Callable[[], float] = time.time,
            store: StateStore | None = None,
            **settings: Any,
        ) -> House:
            store = await stack.enter_async_context(store or open_store("memory:"))
            house = House(store, ControlPlaneConfig(**settings), orchestrator or SimpleOrchestrator(3, None), clock)
            await house.core.start()
            houses.append(house)
            return house

        yield make
        for house in houses:
            await house.core.aclose()


@pytest.fixture
async def house(make_house: MakeHouse) -> House:
    return await make_house()
