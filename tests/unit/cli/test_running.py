"""What a part's process sees to before it runs."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

SCRIPT = """
import resource
from arriero.cli.running import run

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

async def part():
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))

run(part, "error")
"""


def test_a_part_may_open_as_many_files_as_the_system_lets_it() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=30)
    soft, hard = map(int, done.stdout.split())
    assert soft == (20_000 if hard == resource.RLIM_INFINITY else min(20_000, hard))
    assert hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
