"""A control plane on a SQLite file that is damaged while it is stopped, and what becomes of what was in it."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero.state_stores.base import Committed, Document, Entry, Head, Op, StateStore
from arriero.state_stores.database import Database
from arriero.state_stores.plans import plan_of
from arriero.state_stores.watchers import Watchers
from arriero.testing import Harness
from arriero.testing.chance import Chance
from arriero.testing.harness import HarnessTask
from arriero.testing.virtual_time import VirtualTime
from arriero.testing.world import World
from arriero.types.errors import ArrieroError, ConfigurationError, StoreDamaged, TaskFailed
from arriero.types.ids import drawn_from

T = TypeVar("T")

LONG = 60.0
#: The time of day at which everything happens.
NOON = 1_800_000_000.0
#: Seconds of virtual time within which all ends, however it ends.
PATIENCE = 3600.0


class FileStore(StateStore):
    """The SQLite store without its thread and its memory: every read is one of the file, and time may be virtual."""

    schemes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self._watchers = Watchers()

    @property
    def damages(self) -> int:
        return self.database.damages

    async def open(self) -> Self:
        self.database.guarded(self.database.open)
        return self

    async def get(self, collection: str, key: str) -> Document | None:
        value, version = self._do(lambda: self.database.get(collection, key))
        return None if value is None else Document(key, value, version)

    async def scan(
        self, collection: str, after: str = "", limit: int = 100, *, backwards: bool = False
    ) -> list[Document]:
        return self._do(lambda: self.database.scan(collection, after, limit, backwards=backwards))

    async def read_log(self, log: str, after: int = 0, limit: int = 100) -> list[Entry]:
        return self._do(lambda: self.database.read_log(log, after, limit))

    async def head(self, log: str) -> Head:
        return self._do(lambda: self.database.head(log))

    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        plan = plan_of(ops)
        group, [answer] = self._do(lambda: self.database.commit([plan], durable=durable))
        if not isinstance(answer, Committed):
            raise answer
        for log, change in group.logs.items():
            self._watchers.tell(log, change.head)
        return answer

    def watch(self, log: str) -> AsyncGenerator[Head, None]:
        return self._watchers.watch(log, self.head)

    async def aclose(self) -> None:
        self._watchers.close()
        self.database.close()

    def _do(self, work: Callable[[], T]) -> T:
        return self.database.guarded(work)


class Next(Event):
    number: int


class Word(HumanResponseEvent):
    word: str


class Slow(Workflow):
    """Two steps, each of which streams and keeps something, and a long time between them."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Next:
        ctx.write_event_to_stream(Next(number=ev.number))
        await ctx.store.set("kept", ev.number)
        return Next(number=ev.number)

    @step
    async def end(self, ctx: Context, ev: Next) -> StopEvent:
        await asyncio.sleep(LONG)
        return StopEvent(result=[ev.number, await ctx.store.get("kept")])


class Asks(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix=str(ev.number))

    @step
    async def told(self, ev: Word) -> StopEvent:
        return StopEvent(result=ev.word)


def double(number: int) -> int:
    return 2 * number


SERVICES: dict[str, Any] = {"slow": Slow, "asks": Asks, "double": double}


class Stopped:
    """A file with work of every kind in it; its control plane and its workers were killed.

    Tasks by their id: what each was, and what comes of it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"
        self.expected: dict[str, tuple[str, Any]] = {}
        self.asking: set[str] = set()

    async def make(self) -> Self:
        """It is the same each time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with drawn_from(Chance(1)):
            await self._make()
        return self

    async def _make(self) -> None:
        async with OnFile(self.path) as h:
            for name in ("slow", "asks", "double"):
                await h.serve(SERVICES[name], name)
            for number in range(6):
                await self._submit(h, "double", number, await h.session(f"s{number}"), done=True)
            for number in range(4):
                await self._submit(h, "slow", number, f"s{number}")
                await self._submit(h, "slow", number + 10, f"s{number}")  # waits behind it
                await self._submit(h, "asks", number, f"s{number}")
            await h.advance(LONG / 2)
            for hand in h.world.hands:
                await hand.kill()
            await h.kill_core()
            await h.start_core()
            for number in range(4):
                await self._submit(h, "double", number + 20, f"s{number}")
            await h.kill_core()

    async def _submit(self, h: OnFile, service: str, number: int, session: str, *, done: bool = False) -> None:
        task = await h.submit(service, {"number": number}, session=session, task_id=f"{service}-{number}")
        self.expected[task.id] = (session, {"double": 2 * number, "slow": [number, number]}.get(service, "yes"))
        if service == "asks":
            self.asking.add(task.id)
        if done:
            await task.result()

    def copy(self, folder: Path) -> Path:
        """A copy of it, to be damaged."""
        folder.mkdir(parents=True)
        return Path(shutil.copy(self.path, folder))


class OnFile(Harness):
    """The harness on a file that is there already, perhaps."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.time = VirtualTime(NOON)
        self._path = path

    async def __aenter__(self) -> Self:
        store = await FileStore(self._path).open()
        self._file = store
        await super().__aenter__()
        await self.world.aclose()
        old = self.world
        self.store = store  # type: ignore[assignment]  # the harness's own is one in memory
        self.world = World(store, old.queue, old.network, self._orchestrator, self._config, self.time.time_of_day)
        try:
            await self.world.start_core()
        except BaseException:
            self.time.remove()
            store.database.close()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)
        await self._file.aclose()


class Outcomes:
    """What became of the tasks: each is right, or failed as damaged, or its client is told that it is not there.

    Or the whole was refused. All else is a fault.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.refusal = ""


async def start_on(path: Path, stopped: Stopped) -> Outcomes:
    """Start on a file and let all end."""
    outcomes = Outcomes()
    try:
        with drawn_from(Chance(2)):
            await _end_all(path, stopped, outcomes)
    except (StoreDamaged, ConfigurationError) as error:
        outcomes.counts["refused"] += 1
        outcomes.refusal = error.message
    return outcomes


async def _end_all(path: Path, stopped: Stopped, outcomes: Outcomes) -> None:
    async with OnFile(path) as h:
        for name, what in SERVICES.items():
            await h.serve(what, name)
        for task_id, (session, expected) in stopped.expected.items():
            outcome = await _outcome(h, stopped, task_id, session, expected)
            outcomes.counts[outcome.split(":")[0]] += 1
            if not outcome.startswith(("right", "damaged", "UnknownTask", "UnknownSession")):
                outcomes.faults.append(f"{task_id} {outcome}")
        session = await h.session()
        task = await h.submit("double", {"number": 50}, session=session)
        assert await task.result(PATIENCE) == 100


async def _outcome(h: OnFile, stopped: Stopped, task_id: str, session: str, expected: Any) -> str:
    try:
        record = await h.ask(lambda core: core.tasks.get(session, task_id))
        task = HarnessTask(h, record)
        if task_id in stopped.asking and not record.ended:
            try:
                await task.send(Word(word="yes"))
            except ArrieroError as error:
                if not isinstance(error, StoreDamaged) and "StoreDamaged" not in str(error):
                    return f"refuses an event: {error!r}"
        result = await task.result(PATIENCE)
    except StoreDamaged as error:
        return f"damaged: {error.message}"
    except TaskFailed as error:
        return f"damaged: {error.message}" if "StoreDamaged" in str(error) else f"failed otherwise: {error}"
    except ArrieroError as error:
        return f"{type(error).__name__}: {error}"
    return "right" if result == expected else f"wrong: {result} instead of {expected}"
