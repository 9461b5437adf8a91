"""What holds for every test: its folder is its marker, and what it shows is a promise.

Timeout and warnings are set in pyproject.toml.
"""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from tools.guarantees import PROMISES, promises

TESTS = Path(__file__).parent

# A shared machine is slow at times; pytest's timeout guards the whole test, and a run in CI is the same run every time.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)


def pytest_configure() -> None:
    # A run in the background ignores SIGINT, and every process that it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known = promises()
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        item.add_marker(folder)
        if unknown := shown_by(item) - known.keys():
            raise pytest.UsageError(f"{item.nodeid} shows {sorted(unknown)}: no promises of {PROMISES}")


def shown_by(item: pytest.Item) -> set[str]:
    """The promises that a test shows. A class that runs a contract names one of its tests."""
    name = item.name.partition("[")[0]
    marks = [mark for mark in item.iter_markers("shows") if mark.kwargs.get("by", name) == name]
    return {promise for mark in marks for promise in mark.args}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and shown_by(item):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} shows a promise, and was skipped: {report.longrepr}"
    return report
