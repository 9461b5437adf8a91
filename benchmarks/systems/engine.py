"""The engine alone, in the client's process: what every other row adds to."""

from __future__ import annotations

from contextlib import asynccontextmanager

from noop import NoOp
from processes import Processes

from systems.base import Lanes, System


def start(_processes: Processes) -> str:
    return ""


@asynccontextmanager
async def lanes(_address: str, count: int) -> Lanes:
    workflow = NoOp()

    async def call() -> None:
        assert await workflow.run(x=1) == 1

    yield [call] * count


ALONE = System("engine", "the engine alone, in process", "none", start, lanes)
