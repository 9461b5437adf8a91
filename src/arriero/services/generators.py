"""Functions that yield: what they yield becomes events of the task's stream."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from typing import Any, Self

from arriero.types.handling import HandlerContext
from arriero.types.jsonvalue import to_json_value


class Yields:
    """Emits each value that a generator yields, and gives the generator's result.

    An object is an event as it is, any other value the event ``{"value": ...}``. The result is what the generator
    returns; one that returns nothing, as an asynchronous one must, has what it yielded last as its result. Left early,
    because the item ended elsewhere, it closes a generator that runs in a thread at its next ``yield``.
    """

    def __init__(self, context: HandlerContext) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._left = True

    def exhaust(self, value: Any) -> Any:
        """The result of a generator, run to its end in this thread, which is not the loop's; any other value as it is.

        It goes on from a ``yield`` when its event was taken, so it never gets ahead of the loop.
        """
        if not inspect.isgenerator(value):
            return value
        last = None
        with closing(value):
            while True:
                try:
                    yielded = next(value)
                except StopIteration as end:
                    return last if end.value is None else end.value
                asyncio.run_coroutine_threadsafe(self._take(yielded), self._loop).result()
                if self._left:
                    return None
                last = yielded

    async def exhaust_async(self, generator: AsyncGenerator[Any, Any]) -> Any:
        """The result of an asynchronous generator."""
        last = None
        async with aclosing(generator):
            async for last in generator:
                self._emit(last)
                await asyncio.sleep(0)  # others have their turn, even if it never waits
        return last

    async def _take(self, value: Any) -> None:
        if not self._left:
            self._emit(value)

    def _emit(self, value: Any) -> None:
        plain = to_json_value(value, "a yielded value")
        kind = type(value).__name__
        name = "" if type(value).__module__ == "builtins" else kind
        self._context.emit(plain if isinstance(plain, dict) else {"value": plain}, name)
