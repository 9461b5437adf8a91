"""Parts that are killed, with short leases so that nobody waits for long."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from arriero import AsyncLlamaDeployClient
from tests.crash.parts import SHORT, Parts, parts_in
from tests.harness import Core
from tests.scenarios.gate import Gate, gate_here


@pytest.fixture
async def core() -> AsyncIterator[Core]:
    """A core of the test's own."""
    async with Core(env=SHORT) as core:
        yield core


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def lasting_core() -> AsyncIterator[Core]:
    """A core for all tests that leave it alone."""
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
