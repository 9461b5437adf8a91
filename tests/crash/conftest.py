"""Parts that are killed, with short leases so that nobody waits for long."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arriero import AsyncLlamaDeployClient
from tests.crash.parts import Parts, parts_in
from tests.harness import Core
from tests.scenarios.gate import Gate, gate_here

#: Durations in seconds: of leases, between their renewals, and for a lost link.
SHORT = {"CONTROL_PLANE_LEASE": "1.0", "CONTROL_PLANE_RENEW_EVERY": "0.2", "CONTROL_PLANE_LINK_GRACE": "0.1"}


@pytest.fixture
async def core() -> AsyncIterator[Core]:
    """A core of the test's own."""
    async with Core(env=SHORT) as core:
        yield core


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with gate_here() as gate:
        yield gate


@pytest.fixture
async def client(core: Core) -> AsyncIterator[AsyncLlamaDeployClient]:
    async with core.client(timeout=30.0) as client:
        yield client


@pytest.fixture
def parts(core: Core, gate: Gate, tmp_path: Path) -> Parts:
    return parts_in(core, gate, tmp_path / "effects")
