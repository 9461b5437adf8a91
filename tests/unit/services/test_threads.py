"""Threads for code that blocks."""

import asyncio
import contextvars
import threading

import pytest

from arriero.services.threads import THREADS, Threads, in_thread


async def test_calls_that_are_stuck_keep_none_from_running() -> None:
    release = threading.Event()
    stuck = [asyncio.ensure_future(in_thread(release.wait)) for _ in range(40)]
    assert await in_thread(lambda: "done") == "done"
    release.set()
    assert await asyncio.gather(*stuck) == [True] * 40


async def test_a_thread_that_rests_is_used_again() -> None:
    threads, before = Threads(), threading.active_count()
    loop = asyncio.get_running_loop()
    first = await loop.run_in_executor(threads, threading.get_ident)
    while (await loop.run_in_executor(threads, threading.get_ident)) != first:
        pass  # the first may not have come to rest yet
    assert threading.active_count() < before + 10


async def test_the_context_of_the_caller_goes_along() -> None:
    word: contextvars.ContextVar[str] = contextvars.ContextVar("word")
    word.set("heard")
    assert await in_thread(word.get) == "heard"


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(3), KeyError("k")])
async def test_what_is_raised_comes_back(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        await in_thread(fail)


async def test_stop_iteration_comes_back_as_a_runtime_error() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread(lambda: next(iter(())))


async def test_a_call_that_was_given_up_before_it_began_is_not_made() -> None:
    called = threading.Event()
    future = THREADS.submit(lambda: None)
    future.result()
    asked = asyncio.ensure_future(in_thread(called.set))
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert not called.is_set()


async def test_threads_end_with_the_process() -> None:
    release = threading.Event()
    waiting = asyncio.ensure_future(in_thread(release.wait))
    await in_thread(lambda: None)
    ours = [thread for thread in threading.enumerate() if thread.name == "arriero handler"]
    assert ours
    assert all(thread.daemon for thread in ours)
    release.set()
    await waiting
