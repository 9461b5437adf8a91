"""A client that starts with everything else and prints its first result: ``python cold.py ADDRESS``."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from systems import ours


async def main(address: str) -> None:
    async with ours.lanes(address, 1):  # it gives its lanes when the first task came back
        print("result", flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
