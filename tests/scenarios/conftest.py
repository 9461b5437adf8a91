import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio

from arriero import AsyncLlamaDeployClient
from tests.harness import Core, Worker
from tests.scenarios.flows import HERE


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def core() -> AsyncIterator[Core]:
    """One core in a process of its own, for the tests that do not mind what else it knows."""
    async with Core() as core:
        yield core


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def workers(core: Core) -> AsyncIterator[None]:
    """The services below of that core, each in its own process."""
    served = {
        "greeting": "Greeting",
        "counting": "Counting",
        "failing": "Failing",
        "double": "double",
        "beat": "beat",
        "remembering": "Remembering",
        "asking": "Asking",
    }
    async with AsyncExitStack() as stack:
        workers = [Worker(f"{HERE}:{name}", service=service, core=core) for service, name in served.items()]
        turns = asyncio.Semaphore(3)  # a machine with few cores is not given all of them at once

        async def enter(worker: Worker) -> None:
            async with turns:
                await stack.enter_async_context(worker)

        await asyncio.gather(*map(enter, workers))
        yield


@pytest_asyncio.fixture
async def client(core: Core, workers: None) -> AsyncIterator[AsyncLlamaDeployClient]:
    async with core.client() as client:
        yield client


@pytest_asyncio.fixture
async def nothing_is_left() -> AsyncIterator[None]:
    """Whatever a test starts has ended when it ends: no task, and no warning about what was not closed."""
    before = asyncio.all_tasks()
    gc.freeze()  # what was there before need not be looked at
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        assert not left, left
        gc.collect()
    gc.unfreeze()
