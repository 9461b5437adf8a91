"""Keys for the effects of served functions and services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from arriero import BaseService, Nested, QueueMessage, TransientError, idempotency_key, idempotency_key_sync
from arriero.message_queues import MemoryMessageQueue
from arriero.services.worker import WorkerOptions
from arriero.testing import Harness
from arriero.testing.harness import HarnessTask

used: list[str] = []


@pytest.fixture(autouse=True)
def nothing_used() -> None:
    used.clear()


def use(*keys: str) -> list[str]:
    """The first use of these fails afterwards, in a way that passes."""
    used.extend(keys)
    if len(used) == len(keys):
        raise TransientError("not now", retry_after=0.01)
    return list(keys)


async def waits() -> list[str]:
    return use(await idempotency_key("mail"), await idempotency_key("mail"))


def blocks() -> list[str]:
    return use(idempotency_key_sync("mail"), idempotency_key_sync("mail"))


def generates() -> Iterator[str]:
    first = idempotency_key_sync("mail")
    yield "first"
    return use(first, idempotency_key_sync("mail"))


async def generates_while_it_waits() -> AsyncIterator[Any]:
    first = await idempotency_key("mail")
    yield "first"
    yield use(first, await idempotency_key("mail"))


class Begun(Event):
    """The first step has ended."""


class Mails(BaseService):
    """A user's own service."""

    async def process_message(self, message: QueueMessage) -> list[str]:
        return await waits()


@pytest.mark.shows("key.again")
@pytest.mark.parametrize("function", [waits, blocks, generates, generates_while_it_waits])
async def test_a_function_that_is_tried_again_has_the_keys_that_it_had(function: Callable[..., Any]) -> None:
    async with Harness() as h:
        await h.serve(function, "mails")
        keys = await h.call("mails")
        assert used == keys * 2
        assert len({*keys, *await h.call("mails")}) == 4


async def test_process_message_that_is_tried_again_has_the_keys_that_it_had() -> None:
    async with Harness() as h:
        service = Mails("mails", MemoryMessageQueue())
        await h.world.hand(WorkerOptions(service="mails"), service.handler).start()
        keys = await h.call("mails")
        assert used == keys * 2


async def test_a_function_that_a_step_calls_has_keys_of_its_own() -> None:
    class Calls(Workflow):
        @step
        async def only(self, ev: StartEvent, mails: Annotated[Workflow, Nested()]) -> StopEvent:
            return StopEvent(result=[*await mails.run(), await idempotency_key("mail")])

    async with Harness() as h:
        await h.serve(waits, "mails")
        await h.serve(Calls, "calls")
        keys = await h.call("calls")
        assert used == keys[:2] * 2
        assert len(set(keys)) == 3


@pytest.mark.shows("key.other")
async def test_a_fork_and_a_replay_have_keys_of_their_own() -> None:
    class Mailing(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Begun:
            return Begun()

        @step
        async def mail(self, ev: Begun) -> StopEvent:
            return StopEvent(result=await idempotency_key("mail"))

    async with Harness() as h:
        await h.serve(Mailing, "mailing")
        task = await h.start("mailing")
        keys = [await task.result()]
        old = await h.ask(lambda core: core.tasks.get(None, task.id))
        fork = await h.ask(lambda core: core.copies.fork(old, "begin"))
        replay = await h.ask(lambda core: core.copies.replay(old))
        keys += [await HarnessTask(h, new).result() for new in (fork, replay)]
        assert len(set(keys)) == 3
        assert h.steps["mailing"] == {"begin": 2, "mail": 3}
