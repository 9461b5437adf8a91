"""The long run: real processes under load are killed, stopped and started again, and what came of it is counted.

    python -m tests.crash.long --tasks 20000 --kills 300 --write

It prints a table with the commit, the seed and the counts, and with ``--write`` puts it into
docs/explanation/reliability.md. It ends with status 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arriero import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.types.errors import AlreadyAnswered, AlreadyEnded, ArrieroError
from arriero.types.history import TaskHistory
from arriero.types.ids import generate_id
from arriero.types.tasks import TaskDefinition, TaskStatus
from tests.crash.lasting import HERE, STEPS, Word
from tests.harness import Core, Process, Worker

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "reliability.md"
BEGIN, END = "<!-- the long run: begin -->", "<!-- the long run: end -->"
LEASE = 2.0
SHORT = {"CONTROL_PLANE_LEASE": str(LEASE), "CONTROL_PLANE_RENEW_EVERY": "0.5", "CONTROL_PLANE_LINK_GRACE": "0.2"}
#: More losses than a run can bring to one item, since here it is not the item that kills.
LOSSES = {"CONTROL_PLANE_MAX_LOSSES": "1000"}
SERVICES = {"add": "add", "chain": "Chain", "nest": "Nest", "ask": "Ask"}
WORKERS = ("add", "add", "chain", "chain", "nest", "ask")
AT_ONCE = 48
SESSIONS = 200
#: How many tasks are looked at together when all is over.
LOOKS = 16
#: How many tasks may be submitted before their share of kills is done.
AHEAD = 100
#: Seconds that all may take to end once nothing is killed any more.
PATIENCE = 120.0


@dataclass
class Told:
    """One task: what it is, and what was seen of it."""

    id: str
    session: AsyncSessionClient
    service: str
    number: int
    followed: bool
    accepted: bool = False
    numbers: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    restarts: int = 0

    @property
    def given(self) -> dict[str, Any]:
        if self.service == "add":
            return {"one": self.number, "two": 1}
        return {"task": self.id, "one": self.number}

    @property
    def expected(self) -> Any:
        if self.service == "chain":
            return list(range(1, STEPS + 1))
        return self.id if self.service == "ask" else self.number + 1


class LongRun:
    """Load on one side, kills on the other."""

    def __init__(self, tasks: int, kills: int, seed: int, folder: Path) -> None:
        self.tasks, self.kills, self.seed = tasks, kills, seed
        self.chance = random.Random(seed)
        self.effects = folder / "effects"
        self.effects.touch()
        self.told: list[Told] = []
        self.done = self.killed = 0
        self.counts: collections.Counter[str] = collections.Counter()
        self.slowest = 0.0
        #: When workers of each service were killed or stopped, and when a control plane had started, in Unix seconds.
        self.gone: dict[str, list[float]] = collections.defaultdict(list)
        self.up: list[float] = []
        self._watching: list[asyncio.Future[None]] = []
        self.longest_left = 0.0
        self._progress = asyncio.Condition()

    async def run(self) -> dict[str, Any]:
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            core = await stack.enter_async_context(Core(env=SHORT | LOSSES))
            env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "EFFECTS": str(self.effects)}
            workers = [
                Worker(f"{HERE}:{SERVICES[name]}", service=name, core=core, concurrency=8, env=env) for name in WORKERS
            ]
            for worker in workers:
                await stack.enter_async_context(worker)
            client = await stack.enter_async_context(core.client(timeout=PATIENCE))
            killing = asyncio.ensure_future(self._kill(core, workers))
            await self._load(client)
            await killing
            await asyncio.gather(*self._watching)
            await self._look()
        return self._table(time.monotonic() - began)

    # Load

    async def _load(self, client: AsyncLlamaDeployClient) -> None:
        sessions = [await client.create_session() for _ in range(SESSIONS)]
        numbers = iter(range(self.tasks))
        await asyncio.gather(*(self._clerk(sessions, numbers) for _ in range(AT_ONCE)))

    async def _clerk(self, sessions: list[AsyncSessionClient], numbers: Any) -> None:
        for number in numbers:
            async with self._progress:  # the load does not run ahead of the kills
                due = (number - AHEAD) * self.kills // self.tasks
                await self._progress.wait_for(lambda due=due: self.killed >= due)  # type: ignore[misc]  # bound now
            service = self.chance.choices(list(SERVICES), (50, 30, 12, 8))[0]
            follow = service == "ask" or self.chance.random() < 0.15
            told = Told(generate_id(), self.chance.choice(sessions), service, number, follow)
            self.told.append(told)
            try:
                await self._do(told)
            except (ArrieroError, TimeoutError) as error:
                self.counts["errors of clients"] += 1
                print(f"{told.service} {told.id}: {error!r}", file=sys.stderr)
            async with self._progress:
                self.done += 1
                self._progress.notify_all()

    async def _do(self, told: Told) -> None:
        task = TaskDefinition(input=json.dumps(told.given), service_id=told.service, task_id=told.id)
        began = time.monotonic()
        await told.session.create_task(task)
        told.accepted = True
        if told.followed:
            await self._follow(told)
        else:
            async for _ in told.session.get_task_result_stream(told.id):
                pass
        self.slowest = max(self.slowest, time.monotonic() - began)

    async def _follow(self, told: Told) -> None:
        """Read a few entries, leave, come back behind the last, until the end."""
        after, ended = "", False
        while not ended:
            many = self.chance.randint(1, 3)
            async for entry in told.session.follow(told.id, after=after):
                after, ended, many = entry.id, entry.is_end, many - 1
                told.numbers.append(entry.seq)
                told.kinds.append(entry.kind)
                if entry.type == "InputRequiredEvent":
                    await self._answer(told)
                if not many:
                    break
            self.counts["resumed"] += not ended

    async def _answer(self, told: Told) -> None:
        try:
            await told.session.send_event("ask", told.id, Word(word=told.id))
        except (AlreadyAnswered, AlreadyEnded):
            self.counts["answered before"] += 1

    # Kills

    async def _kill(self, core: Core, workers: list[Worker]) -> None:
        """Kill again and again, spread over the load, then let everything come back."""
        for number in range(self.kills):
            async with self._progress:
                due = self.tasks * number // self.kills
                await self._progress.wait_for(lambda due=due: self.done >= due)  # type: ignore[misc]  # bound now
            await asyncio.sleep(self.chance.random() * 0.3)
            await self._one(core, workers)
            async with self._progress:
                self.killed += 1
                self._progress.notify_all()
        for part in (core, *workers):
            if not part.running:
                part.start()
            await part.ready()

    async def _one(self, core: Core, workers: list[Worker]) -> None:
        kind = self.chance.choices(("worker", "core", "stop", "both"), (70, 14, 8, 8))[0]
        worker = self.chance.choice(workers)
        if kind == "stop":
            worker.pause()
            self.gone[str(worker.service)].append(time.time())
            await asyncio.sleep(LEASE * 1.5)
            worker.go_on()
            self.counts["stops beyond the lease"] += 1
            return
        for part in {"worker": [worker], "core": [core], "both": [core, worker]}[kind]:
            await self._restart(part)

    async def _restart(self, part: Process) -> None:
        await part.kill()
        self.counts["kills of the core" if isinstance(part, Core) else "kills of workers"] += 1
        if isinstance(part, Worker):
            self.gone[str(part.service)].append(time.time())
        part.start()
        if isinstance(part, Core):
            self._watching.append(asyncio.ensure_future(self._note_up(part)))
        if self.chance.random() < 0.7:
            await part.ready()

    async def _note_up(self, core: Core) -> None:
        with suppress(Exception):  # it may be killed before it is ready
            await core.ready()
            self.up.append(time.time())

    # What came of it

    async def _look(self) -> None:
        accepted = (told for told in self.told if told.accepted)

        async def look() -> None:
            for told in accepted:
                await self._look_at(told)

        await asyncio.gather(*(look() for _ in range(LOOKS)))
        self._look_outside()

    async def _look_at(self, told: Told) -> None:
        self.counts["accepted"] += 1
        result = await told.session.get_task_result(told.id)
        if result is None:
            self.counts["stuck"] += 1
            return
        if result.status is not TaskStatus.COMPLETED:
            self.counts["lost"] += 1
            print(f"{told.service} {told.id} is {result.status}: {result.error}", file=sys.stderr)
        elif result.value != told.expected:
            self.counts["wrong results"] += 1
            print(f"{told.service} {told.id} gave {result.value}, not {told.expected}", file=sys.stderr)
        entries = [entry async for entry in told.session.follow(told.id)]
        kinds = [entry.kind for entry in entries]
        self.counts["begun again"] += kinds.count("restarted")
        if "restarted" in kinds:
            self._look_at_losses(await told.session.history(told.id))
        if kinds.count("end") != 1 or kinds[-1] != "end":
            self.counts["two ends"] += 1
        if told.followed:
            self.counts["followed"] += 1
            self.counts["gaps or repeats"] += told.numbers != list(range(1, len(entries) + 1))

    def _look_at_losses(self, history: TaskHistory) -> None:
        """How long items stayed with workers that were gone, while there was a control plane to take them away.

        Of two workers of a service, the one that went first is held to be the item's: it was not a shorter time.
        """
        claimed = {(each.item_id, each.epoch): each.at for each in history.entries if each.kind == "claimed"}
        for entry in history.entries:
            if entry.kind not in ("lost", "released"):
                continue
            since = claimed[entry.item_id, entry.epoch]
            gone = [at for at in self.gone[entry.service] if since <= at <= entry.at]
            self.counts[LOSSES_SEEN] += bool(gone)
            if gone:
                left = entry.at - max([gone[0], *(at for at in self.up if at <= entry.at)])
                self.longest_left = max(self.longest_left, left)
                if left > LEASE + 5:
                    self.counts[LEFT] += 1
                    print(
                        f"{entry.item_id} was claimed at {since:.1f}, its worker went at {gone[0]:.1f}", file=sys.stderr
                    )
                    print(f"and it was {entry.kind} ({entry.reason}) at {entry.at:.1f}; {gone=}", file=sys.stderr)

    def _look_outside(self) -> None:
        """A step that begins after the one behind it had begun was finished, and runs again."""
        begun: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
        for line in self.effects.read_text().splitlines():
            task, number, process = line.split()
            self.counts["steps begun"] += 1
            if int(number) < max([before for before, _ in begun[task]], default=0):
                self.counts["finished steps run again"] += 1
                print(f"step {number} of {task} runs again in process {process}, after {begun[task]}", file=sys.stderr)
            begun[task].append((int(number), process))

    def _table(self, seconds: float) -> dict[str, Any]:
        counts = self.counts
        return {
            "commit": _commit(),
            "seed": self.seed,
            "seconds": round(seconds),
            "tasks accepted": counts["accepted"],
            "SIGKILLs (workers)": counts["kills of workers"],
            "SIGKILLs (control planes)": counts["kills of the core"],
            "workers stopped beyond their lease": counts["stops beyond the lease"],
            "runs that began again or went on elsewhere": counts["begun again"],
            "steps begun": counts["steps begun"],
            "streams that were read in parts": counts["followed"],
            "times that a stream was resumed": counts["resumed"],
            "slowest task in seconds": round(self.slowest, 1),
            LOSSES_SEEN: counts[LOSSES_SEEN],
            "longest that an item stayed with a worker that was gone, in seconds": round(self.longest_left, 1),
            **{name: counts[name] for name in MUST_BE_NONE},
        }


LOSSES_SEEN = "items that a worker had when it was killed or stopped"
LEFT = "items left with a worker that was gone for longer than its lease and 5 seconds"
MUST_BE_NONE = (
    LEFT,
    "errors of clients",
    "lost",
    "stuck",
    "wrong results",
    "two ends",
    "finished steps run again",
    "gaps or repeats",
)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def written(table: dict[str, Any]) -> str:
    rows = [f"| {name} | {value} |" for name, value in table.items()]
    return "\n".join([BEGIN, "", "| | |", "|---|---|", *rows, "", END])


async def long_run(tasks: int, kills: int, seed: int) -> dict[str, Any]:
    """Run it; gives the table."""
    with tempfile.TemporaryDirectory(prefix="arriero-") as folder:
        return await LongRun(tasks, kills, seed, Path(folder)).run()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=320)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    table = asyncio.run(long_run(given.tasks, given.kills, given.seed))
    text = written(table)
    print(text)
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: text, page, flags=re.DOTALL), encoding="utf-8")
    return 1 if any(table[name] for name in MUST_BE_NONE) else 0


if __name__ == "__main__":
    sys.exit(main())
