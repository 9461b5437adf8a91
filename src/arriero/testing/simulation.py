"""The whole system on a clock and a luck that come out of one number, with everything going wrong at once.

A simulation runs a control plane on a store in memory, several workers of several services over links in memory, and
clients. Commits fail before or after they took effect, rings are lost, doubled and late, links break, workers are
killed or cut off for longer than their lease, and the control plane is killed and started again. Then all is calm, and
everything that was accepted must end; a :class:`~arriero.testing.witness.Witness` has looked at every commit.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from arriero.core.core import Core
from arriero.core.inbox import Sent
from arriero.core.records import TaskRecord
from arriero.core.tasks import Submission
from arriero.orchestrators import SimpleOrchestrator
from arriero.services.handlers import WorkflowOptions
from arriero.services.worker import WorkerOptions
from arriero.state_stores.base import Op
from arriero.state_stores.memory import MemoryStore
from arriero.testing import workloads
from arriero.testing.chance import Chance, ChancyQueue
from arriero.testing.lives import Life
from arriero.testing.verdict import PATIENCE, judge
from arriero.testing.virtual_time import VirtualTime
from arriero.testing.wires import Network, WiredLink
from arriero.testing.witness import Witness
from arriero.testing.workloads import SERVICES, Stage
from arriero.testing.world import Hand, World
from arriero.types.errors import AlreadyAnswered, AlreadyEnded, ArrieroError, InvalidInput, StateConflict, Unavailable
from arriero.types.handling import Handler
from arriero.types.ids import drawn_from, generate_id
from arriero.types.settings import ControlPlaneConfig

T = TypeVar("T")

START = 1_700_000_000.0
#: Seconds after which a client asks again.
AGAIN = 0.2


@dataclass(slots=True)
class Asked:
    """A task that a client submitted: what it is, and what may become of it."""

    task_id: str
    session: str
    service: str
    given: dict[str, Any]
    accepted: bool = False
    may_be_cancelled: bool = False
    answers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """What came of a simulation. ``anomalies`` are the promises that were broken; there should be none.

    Two simulations with the same ``digest`` committed the same in the same order.
    """

    seed: int
    anomalies: list[str] = field(default_factory=list)
    tasks: int = 0
    commits: int = 0
    kills: int = 0
    refused: int = 0
    seconds: float = 0.0
    digest: str = ""

    def __str__(self) -> str:
        told = (
            f"seed {self.seed}: {self.tasks} tasks, {self.commits} commits, {self.kills} kills, "
            f"{self.refused} writes refused, {self.seconds:.0f} s"
        )
        return "\n".join([told, *self.anomalies])


def simulate(seed: int) -> History:
    """Run one simulation, in an event loop of its own, in some tens of milliseconds; the same each time.

    The history names what broke a promise: a task that was accepted and did not end, or ended twice, or in another way
    than it should; a write under an old claim; a session's tasks out of order; a stream with a gap or two ends; a step
    that began again although its result was kept; a child that outlived its parent; two answers to one question.
    """
    loop = asyncio.SelectorEventLoop()
    time = VirtualTime(START)
    time.install(loop)
    before = random.getstate()
    random.seed(seed)
    simulation = Simulation(seed, time)
    try:
        with drawn_from(simulation.chance), _faults(simulation.witness):
            loop.run_until_complete(simulation.run())
    finally:
        random.setstate(before)
        time.remove()
        loop.close()
    return simulation.history()


class Simulation:
    """One simulation under way."""

    def __init__(self, seed: int, time: VirtualTime) -> None:
        self.seed = seed
        self.time = time
        self.chance = Chance(seed)
        self.witness = Witness()
        self.asked: list[Asked] = []
        self.read: dict[str, list[int]] = {}
        self.kills = self.refused = 0
        self._comings: set[asyncio.Task[None]] = set()

    def history(self) -> History:
        """What was seen."""
        witness = self.witness
        return History(
            self.seed,
            witness.anomalies,
            sum(each.accepted for each in self.asked),
            witness.commits,
            self.kills,
            self.refused,
            self.time.passed,
            witness.digest,
        )

    async def run(self) -> None:
        """All of it."""
        Stage.witness, Stage.chance = self.witness, self.chance
        store = await MemoryStore().open()
        config = ControlPlaneConfig(lease=2.0, renew_every=0.5, link_grace=0.1, max_losses=10_000)
        network = Network(self.chance.delay)
        clock = self.time.time_of_day
        self.world = World(store, ChancyQueue(self.chance), network, SimpleOrchestrator(8, None), config, clock)
        self.world.on_life = self._join
        await self._start_core()
        self._open_services()
        sessions = [await self._surely(lambda core: core.sessions.create()) for _ in range(2)]
        self.chance.failing = self.chance.random.choice((0.0, 0.0, 5.0, 20.0))
        clients = [asyncio.ensure_future(self._client(sessions)) for _ in range(3)]
        await self._trouble()
        await self._calm()
        _, waiting = await asyncio.wait(clients, timeout=PATIENCE)  # what they wait for, the judge finds
        for client in waiting:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=bool(waiting))
        await judge(self, store)
        self.refused += self.world.core.links.refused if self.world.core is not None else 0
        await self._close()

    # Parts

    def _join(self, life: Life) -> None:
        async def before(_: Any) -> None:
            await self.chance.before()

        async def after(ops: Any) -> None:
            self._committed(ops)
            await self.chance.after()

        life.before, life.after, life.reading = before, after, self.chance.reading

    def _committed(self, ops: list[Op]) -> None:
        self.witness.committed(ops)

    async def _start_core(self) -> None:
        while True:
            try:
                await self.world.start_core()
            except Unavailable:
                await asyncio.sleep(AGAIN)
            else:
                return

    def _open_services(self) -> None:
        chosen = self.chance.random.sample(sorted(SERVICES), 2)
        self.services = chosen
        for name in dict.fromkeys([*chosen, *(need for each in chosen for need in workloads.NEEDS.get(each, ()))]):
            for _ in range(2):
                slots = self.chance.random.randint(1, 3)
                hand = self.world.hand(WorkerOptions(service=name, slots=slots), lambda name=name: _handler(name))  # type: ignore[misc]  # bound now
                hand.begin()

    async def _close(self) -> None:
        for hand in self.world.hands:
            if hand.failure is not None:
                self.witness.blame(f"a worker of {hand.service} ended by itself: {hand.failure!r}")
        for coming in self._comings:
            coming.cancel()
        await self.world.aclose()
        await self.world.queue.aclose()

    # Clients

    async def _client(self, sessions: list[str]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.chance.random.randint(2, 5)):
                await asyncio.sleep(self.chance.random.random())
                group.create_task(self._task(self.chance.random.choice(sessions)))

    async def _task(self, session: str) -> None:
        """Submit a task, perhaps twice, and do what clients do with it."""
        chance = self.chance
        service = chance.random.choice(self.services)
        task_id = generate_id()
        asked = Asked(task_id, session, service, workloads.arguments(service, task_id, chance))
        self.asked.append(asked)
        deadline = chance.random.random() * 5 + 0.1 if chance.happens(8) else None
        asked.may_be_cancelled = deadline is not None
        text = msgspec.json.encode(asked.given).decode()
        submission = Submission(input=text, service_id=service, task_id=task_id, deadline=deadline)
        for _ in range(1 + chance.happens(20)):
            record = await self._surely(lambda core: core.tasks.submit(session, submission))
            asked.accepted = True
        async with asyncio.TaskGroup() as group:
            if chance.happens(25):
                group.create_task(self._read(record))
            if chance.happens(10):
                asked.may_be_cancelled = True
                group.create_task(self._cancel(record))
            if service == "asking":
                for word in ("yes", "no"):
                    group.create_task(self._answer(asked, record, word))

    async def _cancel(self, record: TaskRecord) -> None:
        await asyncio.sleep(self.chance.random.random() * 3)
        await self._surely(lambda core: core.tasks.cancel(record.session_id, record.id, "a client says so"))

    async def _answer(self, asked: Asked, record: TaskRecord, word: str) -> None:
        """Answer once there is a question, under a key of its own."""
        while not any(entry.type == "Question" for entry in self.witness.stream(record.id)):
            if any(entry.kind == "end" for entry in self.witness.stream(record.id)):
                return
            await asyncio.sleep(AGAIN)
        data = msgspec.Raw(msgspec.json.encode({"word": word}))
        sent = Sent("asking", "Word", data, word, f"{record.id} {word}")
        try:
            await self._surely(lambda core: core.inbox.send(record.session_id, record.id, sent))
        except (AlreadyAnswered, AlreadyEnded, InvalidInput):
            return  # the other was first, or the task has ended
        asked.answers.append(word)

    async def _read(self, record: TaskRecord) -> None:
        """Follow a stream over every restart, and keep the numbers of its entries."""
        seen = self.read[record.id] = []

        async def follow(core: Core) -> bool:
            async for page in core.streams.follow(record.id, seen[-1] if seen else 0):
                seen.extend(entry.seq for entry in page)
                if self.chance.happens(20):
                    return False
            return True

        while True:
            if await self._surely(follow):
                return
            await asyncio.sleep(self.chance.random.random())

    async def _surely(self, question: Callable[[Core], Coroutine[Any, Any, T]]) -> T:
        """Ask until there is an answer."""
        while True:
            try:
                return await self.world.ask(question)
            except (Unavailable, StateConflict):
                await asyncio.sleep(AGAIN)

    # What goes wrong

    async def _trouble(self) -> None:
        faults = (
            self._kill_worker,
            self._kill_worker,
            self._drop,
            self._cut,
            self._stand,
            self._stand,
            self._kill_core,
        )
        for _ in range(self.chance.random.randint(2, 8)):
            await asyncio.sleep(self.chance.random.random() * 1.5)
            await self.chance.random.choice(faults)()

    async def _calm(self) -> None:
        """Nothing goes wrong any more, and what was ended has come back."""
        self.chance.calm = True
        await asyncio.gather(*self._comings)
        for hand in self.world.hands:
            hand.link.mend()

    def _later(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def come() -> None:
            await asyncio.sleep(self.chance.random.random() * seconds)
            await work()

        coming = asyncio.get_running_loop().create_task(come())
        self._comings.add(coming)
        coming.add_done_callback(self._comings.discard)

    def _any_hand(self) -> Hand:
        return self.chance.random.choice(self.world.hands)

    async def _kill_worker(self) -> None:
        hand = self._any_hand()
        if not hand.working:
            return
        self.kills += 1
        await hand.kill()

        async def start() -> None:
            hand.begin()

        self._later(3, start)

    async def _drop(self) -> None:
        self._any_hand().link.drop()

    async def _cut(self) -> None:
        """A worker that works on, and that nobody hears, perhaps for longer than its lease."""
        link = self._any_hand().link
        link.cut()
        self._mend_later(link)

    async def _stand(self) -> None:
        """The same while its connection stays, so that it is heard later with what it said meanwhile."""
        link = self._any_hand().link
        link.stand()
        self._mend_later(link)

    def _mend_later(self, link: WiredLink) -> None:
        async def mend() -> None:
            link.mend()

        self._later(6, mend)

    async def _kill_core(self) -> None:
        if self.world.core is None:
            return
        self.kills += 1
        self.refused += self.world.core.links.refused
        await self.world.kill_core()
        self._later(3, self._start_core)


_handlers: dict[str, Handler] = {}


def _handler(name: str) -> Handler:
    """The handler of a service. Making one ready costs more than a simulation: it is kept."""
    if name not in _handlers:
        from arriero.services.handlers import FunctionHandler, WorkflowHandler

        what = SERVICES[name]
        _handlers[name] = (
            WorkflowHandler(what(), WorkflowOptions(linger=0.5)) if isinstance(what, type) else FunctionHandler(what)
        )
    return _handlers[name]


class _faults(logging.Handler):  # noqa: N801  # used as a function that gives a context
    """Blames what is logged as a fault of the system itself, and keeps all else quiet."""

    def __init__(self, witness: Witness) -> None:
        super().__init__(logging.ERROR)
        self._witness = witness
        self._logger = logging.getLogger("arriero")

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, ArrieroError):
            self._witness.blame(f"{record.getMessage()}: {error!r}")

    def __enter__(self) -> None:
        self._before = self._logger.level, self._logger.propagate
        self._logger.propagate = False
        self._logger.setLevel(logging.ERROR)
        self._logger.addHandler(self)

    def __exit__(self, *raised: object) -> None:
        self._logger.removeHandler(self)
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)
