"""Functions that yield, as handlers: their events, their results, and their early ends."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from arriero.services.handlers import FunctionHandler
from arriero.types.errors import NotJSON, PayloadTooLarge
from arriero.types.ids import generate_token
from arriero.types.jsonvalue import encode_json
from arriero.types.link import Grant


class Context:
    """Keeps what is emitted, as it was at that moment."""

    def __init__(self, **arguments: Any) -> None:
        self.events: list[tuple[str, Any]] = []
        self.emitted = asyncio.Event()
        self.grant = Grant(
            item_id="i",
            task_id="t",
            session_id="s",
            service="f",
            token=generate_token(),
            epoch=1,
            attempt=1,
            input=msgspec.json.encode(arguments).decode(),
        )

    def emit(self, data: dict[str, Any], type: str = "", *, last: bool = False) -> None:
        self.events.append((type, msgspec.json.decode(encode_json(data, "event"))))
        self.emitted.set()


class Step(BaseModel):
    number: int


def returning(upto: int) -> Generator[Any, None, str]:
    for number in range(upto):
        yield Step(number=number)
    return "returned"


def falling_off(upto: int) -> Iterator[int]:
    yield from range(upto)


async def asynchronous(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


def by_hand(upto: int) -> Any:
    return (number for number in range(upto))


class Called:
    async def __call__(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number


NUMBERS = [("", {"value": 0}), ("", {"value": 1})]


@pytest.mark.parametrize(
    ("function", "events", "result"),
    [
        (returning, [("Step", {"number": 0}), ("Step", {"number": 1})], "returned"),
        (falling_off, NUMBERS, 1),
        (asynchronous, NUMBERS, 1),
        (by_hand, NUMBERS, 1),
        (Called(), NUMBERS, 1),
        (functools.partial(asynchronous), NUMBERS, 1),
    ],
    ids=["returns", "falls off", "asynchronous", "an expression", "an object", "partial"],
)
async def test_what_is_yielded_is_streamed_and_the_end_is_the_result(
    function: Callable[..., Any], events: list[Any], result: Any
) -> None:
    context = Context(upto=2)
    handled = await FunctionHandler(function).handle(context)
    assert handled.value == result
    assert context.events == [*events, ("StopEvent", {"result": result})]


async def test_a_generator_that_yields_nothing_has_no_result() -> None:
    for function in (falling_off, asynchronous):
        assert (await FunctionHandler(function).handle(Context(upto=0))).value is None


async def test_an_event_is_what_was_yielded_even_when_the_object_changes_afterwards() -> None:
    def growing() -> Iterator[dict[str, int]]:
        seen: dict[str, int] = {}
        for number in range(3):
            seen["number"] = number
            yield seen

    context = Context()
    await FunctionHandler(growing).handle(context)
    assert [event["number"] for _, event in context.events[:3]] == [0, 1, 2]


async def test_an_ordinary_generator_runs_in_one_thread_that_is_not_the_loops() -> None:
    def where() -> Iterator[int]:
        for _ in range(20):
            yield threading.get_ident()

    context = Context()
    await FunctionHandler(where).handle(context)
    assert len({event["value"] for _, event in context.events[:-1]} - {threading.get_ident()}) == 1


async def test_what_cannot_be_an_event_fails_the_task_and_closes_the_generator() -> None:
    closed = threading.Event()

    def wrong() -> Iterator[Any]:
        try:
            yield object()
        finally:
            closed.set()

    with pytest.raises(NotJSON, match="a yielded value"):
        await FunctionHandler(wrong).handle(Context())
    assert closed.is_set()


async def test_an_event_that_is_refused_fails_the_task() -> None:
    context = Context(upto=1)

    def refuse(*_: Any, **__: Any) -> None:
        raise PayloadTooLarge("too large")

    context.emit = refuse  # type: ignore[method-assign]  # the worker that refuses
    with pytest.raises(PayloadTooLarge):
        await FunctionHandler(falling_off).handle(context)


async def test_what_a_generator_raises_is_raised() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        await FunctionHandler(failing).handle(Context())


async def test_a_handler_that_is_cancelled_closes_its_generator_at_the_next_yield() -> None:
    closed, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def endless() -> Iterator[int]:
        try:
            yield 0
            go_on.wait(10)
            while True:
                yield 1
        finally:
            loop.call_soon_threadsafe(closed.set)

    context = Context()
    handling = asyncio.ensure_future(FunctionHandler(endless).handle(context))
    await context.emitted.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    go_on.set()
    async with asyncio.timeout(10):
        await closed.wait()
    assert context.events == [("", {"value": 0})]


async def test_an_asynchronous_generator_is_closed_when_its_handler_is_cancelled() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    context = Context()
    handling = asyncio.ensure_future(FunctionHandler(endless).handle(context))
    await context.emitted.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert closed.is_set()
