"""What holds for every test: its folder is its marker. Timeout and warnings are set in pyproject.toml."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).parent

# A shared machine is slow at times; pytest's timeout guards the whole test, and a run in CI is the same run every time.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)


def pytest_configure() -> None:
    # A run in the background ignores SIGINT, and every process that it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        item.add_marker(folder)
