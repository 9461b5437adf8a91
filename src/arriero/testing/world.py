"""A control plane, its workers and their network in one event loop, each of which can end without notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from arriero.core.core import Core
from arriero.message_queues.memory import MemoryMessageQueue
from arriero.orchestrators.base import BaseOrchestrator
from arriero.services.worker import Worker, WorkerOptions
from arriero.state_stores.base import StateStore
from arriero.testing.lives import Life
from arriero.testing.wires import Network, WiredLink
from arriero.types.errors import ControlPlaneUnavailable
from arriero.types.handling import Handler
from arriero.types.settings import ControlPlaneConfig

T = TypeVar("T")


class Hand:
    """A worker, and the task in which it works. ``make`` makes its handler, anew after each kill."""

    def __init__(self, world: World, options: WorkerOptions, make: Callable[[], Handler]) -> None:
        self._world = world
        self._options = options
        self._make = make
        self._task: asyncio.Task[None] | None = None
        self.link: WiredLink

    @property
    def service(self) -> str:
        """The name of what it serves."""
        return self._options.service

    @property
    def working(self) -> bool:
        """Whether it was started and neither killed nor stopped since."""
        return self._task is not None

    async def start(self) -> None:
        """Begin; returns when it is connected."""
        worker = self.begin()
        assert self._task is not None  # it was just begun
        ready = asyncio.ensure_future(worker.ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    def begin(self) -> Worker:
        """Begin, without waiting for the connection."""
        self.link = WiredLink(self._world.network)
        worker = Worker(self._options, self._make(), self.link, self._world.queue)
        self._task = asyncio.get_running_loop().create_task(worker.run(), name=f"worker of {self.service}")
        return worker

    @property
    def failure(self) -> BaseException | None:
        """What it ended with, if it ended by itself."""
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    async def kill(self) -> None:
        """End it as a power cut would: nothing that it holds is given back, and nothing more is sent."""
        self.link.cut()
        await self.stop()

    async def stop(self) -> None:
        """End it in peace: what it holds is given back."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class World:
    """Everything that runs, around a store that outlives it. ``make_queue`` is asked for a queue at each start."""

    def __init__(
        self,
        store: StateStore,
        queue: MemoryMessageQueue,
        network: Network,
        orchestrator: BaseOrchestrator,
        config: ControlPlaneConfig,
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.queue = queue
        self.network = network
        self.hands: list[Hand] = []
        #: Told of each new life of the control plane, before anything is done in it.
        self.on_life: Callable[[Life], None] = _nobody
        self._orchestrator = orchestrator
        self._config = config
        self._clock = clock
        self._life: Life | None = None
        self._asked: set[asyncio.Task[Any]] = set()

    @property
    def core(self) -> Core | None:
        """The control plane, while it runs."""
        return self.network.core

    async def start_core(self) -> Core:
        """A control plane on what the store keeps."""
        self._life = life = Life(self.store)
        self.on_life(life)
        core = Core(life, self.queue, self._orchestrator, self._config, self._clock)
        await core.start()
        self.network.core = core
        return core

    async def kill_core(self) -> None:
        """End it as a power cut would: what is under way is done or not done, and nobody is told."""
        core, self.network.core = self.network.core, None
        if core is None or self._life is None:
            return
        self._life.end()
        for task in list(self._asked):
            task.cancel()
        await asyncio.gather(self.network.cut_all(), core.aclose())

    async def ask(self, question: Callable[[Core], Coroutine[Any, Any, T]]) -> T:
        """Have the control plane do something. Errors: ``ControlPlaneUnavailable`` if it is not there, or ends."""
        core = self.network.core
        if core is None:
            raise ControlPlaneUnavailable("there is no control plane now")
        task = asyncio.get_running_loop().create_task(question(core))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.cancelled():
            raise ControlPlaneUnavailable("the control plane ended before it answered")
        return task.result()

    def hand(self, options: WorkerOptions, make: Callable[[], Handler]) -> Hand:
        """A worker that is not started yet."""
        hand = Hand(self, options, make)
        self.hands.append(hand)
        return hand

    async def aclose(self) -> None:
        """End everything."""
        for hand in self.hands:
            await hand.kill()
        await self.kill_core()


def _nobody(_: Life) -> None:
    """Stands for a listener that is not there."""
