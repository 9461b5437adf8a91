"""Work whose caller is cancelled."""

import asyncio
import gc
from typing import Any

import pytest

from arriero.types.whole import Whole


@pytest.mark.parametrize("fails", [False, True])
async def test_work_goes_on_when_its_caller_is_cancelled_and_nobody_hears_of_its_failure(*, fails: bool) -> None:
    whole, begun, go_on, done = Whole(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.set()
        if fails:
            raise ValueError

    caller = asyncio.ensure_future(whole.do(work()))
    await begun.wait()
    caller.cancel()
    await asyncio.wait([caller])
    go_on.set()
    await asyncio.wait_for(done.wait(), 5)
    assert caller.cancelled()
    del caller  # it holds on to what it waited for
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_what_work_gives_or_raises_is_its_callers() -> None:
    async def give() -> int:
        return 1

    async def fail() -> None:
        raise ValueError("no")

    whole = Whole()
    assert await whole.do(give()) == 1
    with pytest.raises(ValueError, match="no"):
        await whole.do(fail())


async def test_nothing_is_under_way_after_the_end() -> None:
    whole, begun = Whole(), asyncio.Event()
    never = asyncio.get_running_loop().create_future()

    async def work() -> None:
        begun.set()
        await never

    caller = asyncio.ensure_future(whole.do(work()))
    await begun.wait()
    await whole.aclose()
    assert never.cancelled()
    await asyncio.wait([caller])
