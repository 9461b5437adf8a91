"""Processes that kill themselves at each commit and each frame, also while they come back; all ends as it should.

``FAILPOINTS=all`` tries every point; otherwise some of them, which ``FAILPOINTS_SEED`` decides on.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from arriero import AsyncLlamaDeployClient, AsyncSessionClient
from arriero.types.errors import AlreadyAnswered, AlreadyEnded
from arriero.types.ids import generate_id
from arriero.types.tasks import TaskDefinition, TaskStatus
from tests.crash.failing import HERE, WHEN, Word
from tests.crash.parts import ROOT, SHORT
from tests.harness import Core, Worker

ALL = os.environ.get("FAILPOINTS") == "all"
SEED = int(os.environ.get("FAILPOINTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
#: More points of a kind than a part passes while the load is done, and those of which one is tried if not all are.
MOST, SOME = 500, 20
#: Which part dies, and at what.
KINDS = [("core", "commit"), *itertools.product(("core", "worker"), ("send", "receive"))]
#: How many of the points that come next are tried after some.
AGAIN = 6
LONG = 24 * 3600.0

LOSSES = {"CONTROL_PLANE_MAX_LOSSES": "1000"}


class ArmedCore(Core):
    """A core that may be told at which point its next start ends."""

    def __init__(self) -> None:
        super().__init__(env=SHORT | LOSSES | {"PYTHONPATH": ROOT})
        self.arguments[1] = "tests.crash.failing"

    @property
    def armed(self) -> bool:
        return bool(self._env.get("FAILPOINT"))

    def arm(self, point: str) -> None:
        self._env["FAILPOINT"] = point


class ArmedWorker(Worker):
    """The same for a worker."""

    def __init__(self, core: Core, effects: Path) -> None:
        env = {"PYTHONPATH": ROOT, "EFFECTS": str(effects)}
        super().__init__(f"{HERE}:Whole", service="whole", core=core, concurrency=4, env=env)
        self.arguments[1] = "tests.crash.failing"

    @property
    def armed(self) -> bool:
        return bool(self._env.get("FAILPOINT"))

    def arm(self, point: str) -> None:
        self._env["FAILPOINT"] = point


Armed = ArmedCore | ArmedWorker


class Trial:
    """A system of which one part dies, again and again."""

    def __init__(self, client: AsyncLlamaDeployClient, parts: dict[str, Armed], effects: Path) -> None:
        self._client = client
        self._parts = parts
        self._effects = effects

    async def passes(self, of: str, point: str, *then: str) -> bool:
        """Whether the load was done before the point was reached: then there are no more such points."""
        part = self._parts[of]
        await part.kill()
        starts = iter(then)
        part.arm(point)
        part.start()
        deaths = 0

        async def revive() -> None:
            nonlocal deaths
            while True:
                await part.ended(within=LONG)
                deaths += 1
                part.arm(next(starts, ""))
                part.start()

        reviving = asyncio.ensure_future(revive())
        try:
            async with asyncio.timeout(40):
                await self._load()
        except TimeoutError:
            raise AssertionError(f"stuck: the {of} died {point}, then {then}:\n{part.log}") from None
        finally:
            reviving.cancel()
            await asyncio.gather(reviving, return_exceptions=True)
        await self._disarm(part)
        return not deaths

    async def _disarm(self, part: Armed) -> None:
        if part.armed:
            await part.kill()
            part.arm("")
        if not part.running:
            part.start()
        await part.ready()

    async def _load(self) -> None:
        session, other = await self._client.create_session(), await self._client.create_session()
        task, cancelled = [
            await each.create_task(
                TaskDefinition(input=f'{{"task": "{task_id}"}}', service_id="whole", task_id=task_id)
            )
            for each, task_id in ((session, generate_id()), (other, generate_id()))
        ]
        await other.cancel(cancelled)
        await self._follow(session, task)
        result = await session.get_task_result(task)
        assert result is not None
        assert (result.status, result.result) == (TaskStatus.COMPLETED, "yes 42"), result
        given_up = await other.get_task_result(cancelled)
        assert given_up is not None
        assert given_up.status is TaskStatus.CANCELLED
        for each, task_id in ((session, task), (other, cancelled)):
            entries = [entry async for entry in each.follow(task_id)]
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
            assert [entry.is_end for entry in entries] == [False] * (len(entries) - 1) + [True]
        steps = [int(number) for told, number in map(str.split, self._effects.read_text().splitlines()) if told == task]
        assert steps == sorted(steps), f"a finished step of {task} ran again: {steps}"
        assert set(steps) == {0, 1, 2}

    async def _follow(self, session: AsyncSessionClient, task: str) -> None:
        seen = []
        async for entry in session.follow(task):
            seen.append(entry.seq)
            if entry.type == "Sure":
                with suppress(AlreadyAnswered, AlreadyEnded):  # it may ask again although it was told
                    await session.send_event("whole", task, Word(task=task, word="yes"))
        assert seen == list(range(1, len(seen) + 1))


@asynccontextmanager
async def trial(folder: Path) -> AsyncIterator[Trial]:
    effects = folder / "effects"
    effects.touch()
    async with ArmedCore() as core, core.client(timeout=40.0) as client:
        double = Worker(f"{HERE}:double", service="double", core=core, env={"PYTHONPATH": ROOT})
        async with double, ArmedWorker(core, effects) as worker:
            yield Trial(client, {"core": core, "worker": worker}, effects)


def numbers(chance: random.Random) -> Iterable[int]:
    return range(1, MOST) if ALL else [chance.randint(1, SOME)]


@pytest.mark.timeout(3600 if ALL else 120)
@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] if ALL else [KINDS], ids=str)
async def test_whatever_point_a_process_dies_at_all_ends_as_it_should(
    kinds: list[tuple[str, str]], tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    print(f"FAILPOINTS_SEED={SEED}")
    async with trial(tmp_path) as system:
        for of, what in kinds:
            tried = 0
            for when in WHEN if ALL else [chance.choice(WHEN)]:
                for number in numbers(chance):
                    again = f"{chance.choice(WHEN)} {what} {chance.randint(1, AGAIN)}"
                    then = [again] if chance.random() < 0.5 else []
                    print(f"the {of} dies {when} {what} {number}, then {then}", flush=True)
                    if await system.passes(of, f"{when} {what} {number}", *then):
                        break
                    tried += 1
            print(f"{tried} points of {of} at {what}", flush=True)
            assert tried > 2 * SOME // 3 or not ALL
