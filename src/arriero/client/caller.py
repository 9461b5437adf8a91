"""The asynchronous shell around the requests: sends them, bears what passes, holds the connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from arriero.client import nearby
from arriero.client.requests import Request
from arriero.client.runs import Talk
from arriero.client.settings import ClientSettings, default_settings
from arriero.client.streams import Entry, Following
from arriero.client.trouble import Kind, Outage, Patience, Trouble, shown
from arriero.types.errors import ArrieroError, ConfigurationError, ControlPlaneUnavailable

if TYPE_CHECKING:
    from arriero.client.transport import Pool, Stream

T = TypeVar("T")


class AsyncCaller:
    """Calls to one control plane, each for at most ``timeout`` seconds (None: no limit), from whichever loop runs."""

    def __init__(self, url: str, timeout: float | None, settings: ClientSettings | None = None) -> None:
        if timeout is not None and not timeout >= 0:
            raise ConfigurationError(f"timeout must be a number of seconds of at least 0, or None, not {timeout!r}")
        self.url = url
        self._shown = shown(url)
        self.timeout = None if timeout == float("inf") else timeout
        self.settings = settings or default_settings()
        self._pool: Pool | None = None

    async def call(self, request: Request[T], since: float | None = None) -> T:
        """The result of a request; it is repeated through trouble, until ``timeout`` seconds after ``since``."""
        return (await self._ask(request, since))[0]

    async def call_all(self, page: Callable[[str], Request[list[T]]]) -> list[T]:
        """A whole list, of which each request asks for the page behind a cursor."""
        since = time.monotonic()
        found, following = await self._ask(page(""), since)
        while following:
            more, following = await self._ask(page(following), since)
            found += more
        return found

    async def _ask(self, request: Request[T], since: float | None) -> tuple[T, str]:
        since = time.monotonic() if since is None else since
        if request.pause:
            await asyncio.sleep(request.pause)
        patience = Patience(self._shown, self.timeout, since)
        while True:
            asked = nearby.find(self.url) or await self._pool_here()
            began = time.monotonic()
            try:
                status, body, following = await asked.exchange(request, self._left(since, began))
                result = request.parse(status, body)
            except (Trouble, ArrieroError) as error:
                trouble = _passing(error, asked.outage)
            else:
                asked.outage.over()
                return result, following
            asked.outage.met(trouble, began, time.monotonic(), self.timeout)
            try:
                pause = patience.pause(trouble, time.monotonic())
            except ControlPlaneUnavailable:
                if request.wait is not None and trouble.kind is Kind.SILENT:
                    return request.read(b"null"), ""  # a wait that was not answered has brought no result
                raise
            await asyncio.sleep(pause)

    async def converse(self, talk: Talk[T]) -> T:
        """Send what the talk asks for, until it returns."""
        since = time.monotonic()
        try:
            request = next(talk)
            while True:
                try:
                    ended = await self.call(request, since)
                except ControlPlaneUnavailable as error:
                    request = talk.throw(error)
                else:
                    request = talk.send(ended)
        except StopIteration as end:
            result: T = end.value
            return result

    async def follow(self, session_id: str, task_id: str, after: str = "") -> AsyncGenerator[list[Entry], None]:
        """The entries of a task's stream behind ``after`` as they come, through dropped connections, until its end."""
        following = Following(session_id, task_id, self._shown, self.timeout, time.monotonic()).behind(after)
        while True:
            pool = await self._pool_here()
            began = time.monotonic()
            try:
                async with aclosing(pool.stream(following.request(began))) as stream:
                    while True:
                        chunk = await _next(stream, following)
                        pool.outage.over()
                        if chunk is None:
                            return
                        if entries := following.feed(chunk):
                            yield entries
                            if entries[-1].kind == "end":
                                return
            except (Trouble, ArrieroError) as error:
                trouble = _passing(error, pool.outage)
            pool.outage.met(trouble, began, time.monotonic(), self.timeout)
            await asyncio.sleep(following.lost(trouble, time.monotonic()))

    async def within(self, timeout: float | None) -> AsyncCaller:
        """The same with another limit for each call, on the connections of this one."""
        caller = AsyncCaller(self.url, timeout, self.settings)
        if nearby.find(self.url) is None:
            caller._pool = await self._pool_here()  # of the same class
        return caller

    async def aclose(self) -> None:
        """Part from the connections; those that nobody else uses are closed. A later call opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            from arriero.client.transport import part

            await part(pool, self)

    def longest_wait(self) -> float:
        """For how long a request should wait for a result now."""
        return self.settings.longest_wait if self._pool is None else self._pool.longest_wait

    async def _pool_here(self) -> Pool:
        pool = self._pool
        if pool is None or pool.closed or pool.loop is not asyncio.get_running_loop():
            from arriero.client.transport import Place, join

            pool = self._pool = await join(Place(self.url, self.settings), self)
        return pool

    def _left(self, since: float, now: float) -> float | None:
        return None if self.timeout is None else since + self.timeout - now


def _passing(error: Trouble | ArrieroError, outage: Outage) -> Trouble:
    """The trouble that may pass; an error that is final is raised."""
    trouble = error if isinstance(error, Trouble) else Trouble.in_answer(error)
    if trouble is None:
        outage.over()
        raise error
    return trouble


async def _next(stream: Stream, following: Following) -> bytes | None:
    try:
        async with asyncio.timeout(following.first_within(time.monotonic())):
            chunk = await stream.next()
    except TimeoutError:
        raise following.too_late() from None
    if chunk == b"":
        raise Trouble(Kind.DROPPED, "closed the stream before its end")
    return chunk
