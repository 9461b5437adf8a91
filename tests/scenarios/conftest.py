from collections.abc import AsyncIterator

import pytest_asyncio

from tests.harness import Core


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def core() -> AsyncIterator[Core]:
    """One core in a process of its own, for the tests that do not mind what else it knows."""
    async with Core() as core:
        yield core
