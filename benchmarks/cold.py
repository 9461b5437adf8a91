"""A client that starts with everything else and prints when it had its first result: ``python cold.py ADDRESS``."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from systems import ours


async def main(address: str) -> None:
    async with ours.lanes(address, 1):  # it gives its lanes when the first task came back
        print(time.monotonic())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
