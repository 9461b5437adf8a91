"""The lease of a worker whose event loop is blocked by a handler."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from arriero.services import lease
from arriero.services.lease import LeaseKeeper

PATIENCE = 20.0


class Renewing:
    """Counts renewals; ``enough`` is set when there were some."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.threads: set[int] = set()
        self.enough = threading.Event()

    def renew(self, worker_id: str) -> float:
        self.threads.add(threading.get_ident())
        self.count -= 1
        if self.count == 0:
            self.enough.set()
        return 1.0


class Hearing(logging.Handler):
    """Hears the first error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard = threading.Event()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()
        self.heard.set()


def keeper(link: Any) -> LeaseKeeper:
    keeper = LeaseKeeper(link, "worker", asyncio.get_running_loop())
    keeper.start(0.01)
    keeper.busy(holds_items=True)
    return keeper


@pytest.mark.shows("run.renewed")
async def test_while_a_handler_blocks_the_loop_a_thread_renews_the_lease() -> None:
    renewing = Renewing(3)
    keeping = keeper(renewing)
    assert renewing.enough.wait(PATIENCE)  # nothing else in this loop gets a turn
    assert threading.get_ident() not in renewing.threads
    keeping.stop()


def block(heard: threading.Event) -> bool:
    return heard.wait(PATIENCE)


@pytest.mark.shows("run.blocked")
async def test_a_loop_that_is_blocked_for_too_long_is_given_up_with_its_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LONGEST_BLOCK", 0.05)
    renewing, hearing = Renewing(-1), Hearing()
    lease.logger.addHandler(hearing)
    keeping = keeper(renewing)
    assert block(hearing.heard)
    assert "the event loop is blocked" in hearing.text
    assert "in block" in hearing.text  # where it stands
    given_up, renewing.count = renewing.count, 1
    assert not renewing.enough.wait(0.05)
    await asyncio.get_running_loop().run_in_executor(None, renewing.enough.wait, PATIENCE)  # it turns again
    assert renewing.enough.is_set()
    assert given_up < 0
    keeping.stop()
    lease.logger.removeHandler(hearing)
