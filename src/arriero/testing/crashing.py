"""Kills what runs a workflow after every write that its run makes, and looks whether that makes a difference."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from arriero.client.events import SentEvent
from arriero.core import names, records
from arriero.state_stores.base import Append, Delete, Drop, Expect, Op, Put
from arriero.testing.harness import Harness, HarnessTask
from arriero.testing.lives import Life
from arriero.testing.world import Hand
from arriero.types.tasks import TaskDefinition, TaskStatus

if TYPE_CHECKING:
    from workflows import Workflow

#: What is killed after a write.
WORKER, CORE, EVERYTHING = "the worker", "the control plane", "everything"
SERVICE = "workflow"
SESSION, TASK = "session", "task"
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Kill:
    """``what`` is killed right after the run's write ``number``, which is told in words in ``write``."""

    number: int
    write: str
    what: str

    def __str__(self) -> str:
        return f"{self.what} killed after write {self.number} ({self.write})"


@dataclass(slots=True)
class Outcome:
    """How a run ended: what must be the same wherever it was interrupted."""

    status: TaskStatus
    value: Any = None
    error: str | None = None

    def __str__(self) -> str:
        if self.status is TaskStatus.COMPLETED:
            return f"completed with {json.dumps(self.value)[:300]}"
        return f"{self.status}: {self.error}"


@dataclass(slots=True)
class CrashReport:
    """What :func:`crash_test` saw. ``problems`` names each kill that made a difference, and which.

    ``writes`` are the writes of the run that nobody interrupted, ``steps`` how often each step began in it.
    """

    outcome: Outcome
    writes: list[str]
    steps: dict[str, int]
    kills: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{self.kills} kills over {len(self.writes)} writes; a run that nobody interrupts {self.outcome}"
        return "\n".join([head, *self.problems])


async def crash_test(
    workflow_factory: Callable[[], Workflow],
    arguments: Mapping[str, Any] | None = None,
    *,
    events: Sequence[SentEvent] = (),
    services: Mapping[str, Any] | None = None,
    kill: Sequence[str] = (WORKER, CORE, EVERYTHING),
    same: Callable[[Any], Any] = lambda value: value,
    **settings: Any,
) -> CrashReport:
    """Run a workflow to its end, then again for each of its writes with a kill right after that write.

    Whatever is killed is started again. Each run must end as the one did that nobody interrupted, and no step that had
    ended, that is, whose result was kept, may have begun again. Otherwise ``AssertionError``, which names the write at
    which it differs.

    ``events`` are sent from outside, each as soon as the run asks (or waits) for one. ``services`` are functions or
    workflow classes that the workflow calls, by name. ``same`` takes from a result what must be the same, where some of
    it need not be, such as a time. ``settings`` are those of ``WorkflowServiceConfig``. It takes no real time for
    sleeps and retries; each run is a few milliseconds. Call it in a test that is a coroutine.
    """
    trial = _Trial(workflow_factory, dict(arguments or {}), list(events), dict(services or {}), settings)
    first = await trial.run(None)
    outcome = Outcome(first.outcome.status, same(first.outcome.value), first.outcome.error)
    report = CrashReport(outcome, first.writes, dict(first.begun))
    for number, write in enumerate(first.writes, 1):
        for what in kill:
            killed = Kill(number, write, what)
            again = await trial.run(killed)
            report.kills += 1
            again.outcome.value = same(again.outcome.value)
            report.problems += _differences(killed, outcome, first, again)
    if report.problems:
        raise AssertionError(str(report))
    return report


@dataclass(slots=True)
class _Seen:
    """One run: how it ended, what it wrote, which steps began and which of them had not ended at the kill."""

    outcome: Outcome
    writes: list[str] = field(default_factory=list)
    begun: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)


class _Trial:
    """Runs the workflow, each time in a system of its own."""

    def __init__(
        self,
        factory: Callable[[], Workflow],
        arguments: dict[str, Any],
        events: list[SentEvent],
        services: dict[str, Any],
        settings: dict[str, Any],
    ) -> None:
        self._factory = factory
        self._arguments = arguments
        self._events = events
        self._services = services
        self._settings = settings

    async def run(self, kill: Kill | None) -> _Seen:
        async with Harness() as harness:
            for name, service in self._services.items():
                await harness.serve(service, name)
            hand = await harness.serve_made(self._factory, SERVICE, **self._settings)
            watch = _Watch(harness, hand, kill)
            session = await harness.session(SESSION)
            beside = [asyncio.ensure_future(watch.kill())]
            try:
                task = await harness.submit(SERVICE, self._arguments, session=session, task_id=TASK)
                beside.append(asyncio.ensure_future(self._answer(harness, task)))
                ended = await task.ended()
                if watch.due.is_set():
                    await beside[0]
                return _Seen(await _outcome(task, ended), watch.writes, _all(harness), watch.open)
            finally:
                for each in beside:
                    each.cancel()
                await asyncio.gather(*beside, return_exceptions=True)

    async def _answer(self, harness: Harness, task: HarnessTask) -> None:
        """Send each event once the run waits for one: it is known by the item's status."""
        for event in self._events:
            while (await task.status()).status is not TaskStatus.WAITING:
                await harness.advance(0.05)  # the harness's time, of which there is plenty
            await task.send(event)
            await harness.settle()


class _Watch:
    """Counts the writes of the run, and kills when it is time."""

    def __init__(self, harness: Harness, hand: Hand, kill: Kill | None) -> None:
        self._harness = harness
        self._hand = hand
        self._kill = kill
        self._journaled: Counter[str] = Counter()
        self.writes: list[str] = []
        self.open: Counter[str] = Counter()
        self.due = asyncio.Event()
        core = harness.world.core
        assert core is not None  # the harness was entered
        life = core.kernel.store
        assert isinstance(life, Life)  # the harness's
        self._join(life)
        harness.world.on_life = self._join

    def _join(self, life: Life) -> None:
        async def after(ops: Sequence[Op]) -> None:
            await self._written(life, ops)

        life.after = after

    async def _written(self, life: Life, ops: Sequence[Op]) -> None:
        if not _concerns(ops):
            return
        self.writes.append(_in_words(ops))
        self._note(ops)
        if self._kill is None or len(self.writes) != self._kill.number:
            return
        if self._kill.what != WORKER:
            life.end()
        if self._kill.what != CORE:
            self._hand.link.cut()
        self.due.set()

    def _note(self, ops: Sequence[Op]) -> None:
        """Which steps have ended for good."""
        for op in ops:
            if isinstance(op, Append) and op.log.startswith("journal/"):
                for value in op.values:
                    ticks = msgspec.json.decode(value).get("ticks", ())
                    self._journaled.update(_step(tick) for tick in ticks if tick.get("type") == "step_result")

    async def kill(self) -> None:
        """Kill what is to be killed when it is time, and start it again."""
        await self.due.wait()
        assert self._kill is not None  # otherwise it is never time
        what, world = self._kill.what, self._harness.world
        if what != WORKER:
            await world.kill_core()
        if what != CORE:
            await self._hand.kill()
            self.open = _all(self._harness) - self._journaled
        if what != WORKER:
            await world.start_core()
        if what != CORE:
            await self._hand.start()


def _step(tick: dict[str, Any]) -> str:
    named = tick.get("step_id", tick.get("step_name", ""))
    return str(named["name"] if isinstance(named, dict) else named)


def _concerns(ops: Sequence[Op]) -> bool:
    """Whether a commit concerns the run: it touches what bears the id of its task."""
    return any(TASK in _place(op).split("/") for op in ops)


def _place(op: Op) -> str:
    match op:
        case Append() | Drop():
            return op.log
        case Put() | Delete() | Expect():
            return f"{op.collection}/{op.key}"


def _in_words(ops: Sequence[Op]) -> str:
    """What a commit does to the run."""
    said = [word for op in ops if (word := _word(op))]
    return ", ".join(dict.fromkeys(said)) or "a change of the run's record"


def _word(op: Op) -> str:
    if isinstance(op, Append):
        kind = "journal" if op.log.startswith("journal/") else "stream"
        return f"{len(op.values)} of the {kind}" if op.values else ""
    if isinstance(op, Put) and op.collection == names.ITEMS:
        item = records.ITEM.decode(op.value)
        return f"item of {item.service!r} {item.status}"
    if isinstance(op, Put) and op.collection == names.TASKS:
        return f"task {records.TASK.decode(op.value).status}"
    if isinstance(op, Put) and op.collection.startswith("inbox/"):
        return "an event from outside"
    return ""


def _all(harness: Harness) -> Counter[str]:
    """How often each step of the workflow has begun."""
    return Counter(harness.steps[SERVICE])


async def _outcome(task: HarnessTask, ended: TaskDefinition) -> Outcome:
    assert ended.status is not None  # known of every task that was accepted
    if ended.status is TaskStatus.COMPLETED:
        return Outcome(ended.status, await task.result())
    error = ended.error or {}
    return Outcome(ended.status, error=f"{error.get('type')}: {error.get('message')}")


def _differences(kill: Kill, expected: Outcome, first: _Seen, again: _Seen) -> list[str]:
    found = []
    if again.outcome != expected:
        found.append(f"{kill}: it {again.outcome}")
    for name, count in again.begun.items():
        allowed = first.begun[name] + again.open[name]
        if count > allowed:
            found.append(f"{kill}: step {name!r} began {count} times, and at most {allowed} are accounted for")
    return found
