"""What a part's process sees to before it runs."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

FILES = """
import resource
from arriero.cli.running import run

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

async def part():
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))

run(part, "error")
"""

LOGS = """
import logging, sys
from arriero.cli.running import run

async def part():
    chatty = logging.getLogger("chatty")
    chatty.setLevel(logging.DEBUG)  # as some libraries do
    chatty.debug("a detail")
    chatty.info("a fact")

run(part, sys.argv[1])
"""

BROKEN = """
import asyncio
from arriero.cli.running import run

def leave():
    raise SystemExit(0)

def cancel():
    for task in asyncio.all_tasks():
        task.cancel()

async def part():
    loop = asyncio.get_running_loop()
    loop.call_soon({deed})
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)

run(part, "error")
"""


def test_a_part_may_open_as_many_files_as_the_system_lets_it() -> None:
    done = subprocess.run([sys.executable, "-c", FILES], capture_output=True, text=True, check=True, timeout=30)
    soft, hard = map(int, done.stdout.split())
    assert soft == (20_000 if hard == resource.RLIM_INFINITY else min(20_000, hard))
    assert hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.parametrize(("level", "told"), [("debug", ["detail", "fact"]), ("info", ["fact"]), ("warning", [])])
def test_nothing_below_the_level_is_logged_whatever_a_library_sets(level: str, told: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", LOGS, level], capture_output=True, text=True, check=True, timeout=30)
    lines = [line for line in done.stderr.splitlines() if " chatty: " in line]
    assert [line.rpartition(" ")[2] for line in lines] == told


@pytest.mark.parametrize("deed", ["loop.stop", "leave", "cancel"])
def test_a_part_whose_loop_is_taken_from_it_ends_as_if_it_had_crashed(deed: str) -> None:
    script = BROKEN.replace("{deed}", deed)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "stopped the event loop" in done.stderr
