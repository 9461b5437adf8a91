"""Connections, with aiohttp: one pool for each event loop and control plane, shared by all clients of the process.

This module imports aiohttp, so it is imported when a client first sends something.
"""

from __future__ import annotations

import asyncio
import atexit
import io
import math
import os
import threading
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakSet

import aiohttp
from yarl import URL

from arriero.client.requests import NEXT_AFTER, SUCCESS, Request
from arriero.client.settings import ClientSettings, answer_within
from arriero.client.tracing import traceparent
from arriero.client.trouble import Kind, Outage, Trouble, shown
from arriero.types.errors import ArrieroError, ConfigurationError, ControlPlaneUnavailable, ProtocolError

#: With this part of the connections in use, waits are this short, so that requests take turns.
CROWDED = 0.75
CROWDED_WAIT = 1.0
#: Bytes of a body from which on it is sent piece by piece, so that other requests get a turn meanwhile.
LARGE = 256 * 1024
UNAUTHORIZED = 401

#: The status of the answer to those who have the whole stream.
NOTHING = 204

_OWN_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Place(NamedTuple):
    """What a pool is for."""

    url: str
    settings: ClientSettings


class Pool:
    """The connections from one event loop to one control plane. Make it with :func:`join`."""

    def __init__(self, place: Place, loop: asyncio.AbstractEventLoop) -> None:
        self._base = _base_of(place.url)
        self.place = place
        self._authorization = place.settings.authorization(place.url)
        self.loop = loop
        self.closed = False
        self.users: WeakSet[object] = WeakSet()
        self.outage = Outage(shown(place.url))
        self._slots = asyncio.Semaphore(place.settings.max_connections)
        self._busy = 0
        self._crowd = max(1, int(place.settings.max_connections * CROWDED))
        self._connector = _Connector(
            limit=0, keepalive_timeout=place.settings.keep_alive, ssl=place.settings.verify_tls
        )
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_OWN_HEADERS,
        )
        self._guard = self._until_closed()

    async def start(self) -> None:
        """Have the loop's shutdown close the pool: it closes every asynchronous generator that has begun."""
        await anext(self._guard)

    async def aclose(self) -> None:
        """Close every connection; a second call does nothing."""
        if not self.closed:
            self.closed = True
            await self._guard.aclose()

    def leave(self) -> None:
        """Let go of everything without the loop, which is closed or will not run again."""
        self.closed = self._connector.left = True

    @property
    def longest_wait(self) -> float:
        """For how long a request should wait for a result now."""
        longest = self.place.settings.longest_wait
        return longest if self._busy < self._crowd else min(longest, CROWDED_WAIT)

    async def exchange(self, request: Request[Any], left: float | None) -> tuple[int, bytes, str]:
        """One attempt, for a call that has ``left`` seconds: status and body of the answer, and how its list goes on.

        What may pass is raised as :class:`Trouble`, what may not as its typed error.
        """
        await self._take_slot(left)
        self._busy += 1
        try:
            timeout = _timeout(self.place.settings, request.wait, left)
            async with await self.open(request, timeout) as response:
                return response.status, await response.read(), response.headers.get(NEXT_AFTER, "")
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error
        finally:
            self._busy -= 1
            self._slots.release()

    def stream(self, request: Request[None]) -> Stream:
        """The body of the answer as it comes; errors as from :meth:`exchange`. Silence for too long is trouble."""
        return Stream(self, request)

    async def open(self, request: Request[Any], timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """The answer, as soon as its head is there."""
        sent = self._authorization
        response = await self._send(request, timeout, sent)
        if response.status == UNAUTHORIZED and (newest := self._newest_token()) not in (None, sent):
            response.release()
            response = await self._send(request, timeout, newest)
        return response

    async def _send(
        self, request: Request[Any], timeout: aiohttp.ClientTimeout, authorization: str | None
    ) -> aiohttp.ClientResponse:
        headers = request.headers
        if (trace := traceparent()) is not None:
            headers = {**headers, "traceparent": trace}
        if authorization is not None:
            headers = {**headers, "Authorization": authorization}
        return await self._session.request(
            request.method,
            _url(self._base + request.target),
            data=_data(request.body),
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        )

    def _newest_token(self) -> str | None:
        """What the local token file says by now: a core writes it when it first starts."""
        self._authorization = self.place.settings.authorization(self.place.url)
        return self._authorization

    async def _take_slot(self, left: float | None) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(left):
                await self._slots.acquire()
        except TimeoutError:
            most = self.place.settings.max_connections
            reason = f"could not be asked, because all {most} connections are in use (ARRIERO_CLIENT_MAX_CONNECTIONS)"
            raise Trouble(Kind.SILENT, reason) from None

    async def _until_closed(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self.closed = True
            _forget(self)
            await self._session.close()


class Stream:
    """One answer that comes bit by bit. A class, not a generator: a loop that shuts down closes those in any order."""

    def __init__(self, pool: Pool, request: Request[None]) -> None:
        self._pool = pool
        self._request = request
        self._response: aiohttp.ClientResponse | None = None

    async def next(self) -> bytes | None:
        """The next bytes; none at the end, and None where nothing was left. The first call sends the request."""
        try:
            if self._response is None:
                self._response = await self._pool.open(self._request, self._timeout())
                await self._check(self._response)
            if self._response.status == NOTHING:
                return None
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        """Let the connection go."""
        if self._response is not None:
            self._response.release()

    def _timeout(self) -> aiohttp.ClientTimeout:
        settings = self._pool.place.settings
        return aiohttp.ClientTimeout(sock_connect=settings.connect_timeout, sock_read=settings.stream_silence)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == NOTHING:
            return
        if response.status not in SUCCESS or response.content_type != "text/event-stream":
            name, kind = self._request.name, response.content_type
            self._request.parse(response.status, await response.read())
            raise ProtocolError(f"{name} was answered with {kind}, not with a stream of events")


class _Connector(aiohttp.TCPConnector):
    """A connector that makes no noise about a loop that was closed, or a program that ended, before it."""

    left = False

    @property
    def closed(self) -> bool:
        return self.left or super().closed or self._loop.is_closed()

    def __del__(self, *modules: Any) -> None:
        if not self.closed:
            super().__del__(*modules)


_pools: dict[asyncio.AbstractEventLoop, dict[Place, Pool]] = {}
_lock = threading.Lock()


async def join(place: Place, user: object) -> Pool:
    """The pool of the running loop for this place; it is closed when its last user parts, or with the loop."""
    loop = asyncio.get_running_loop()
    with _lock:
        for gone in [other for other in _pools if other.is_closed()]:
            _leave(_pools.pop(gone))
        pools = _pools.setdefault(loop, {})
        known = pools.get(place)
        pool = pools[place] = known or Pool(place, loop)
        pool.users.add(user)
    if known is None:
        await pool.start()
    return pool


async def part(pool: Pool, user: object) -> None:
    """The user needs the pool no more. From another loop than the pool's this only takes note of it."""
    pool.users.discard(user)
    if not pool.users and pool.loop is asyncio.get_running_loop():
        await pool.aclose()


def _forget(pool: Pool) -> None:
    with _lock:
        pools = _pools.get(pool.loop, {})
        if pools.get(pool.place) is pool:
            del pools[pool.place]
        if not pools:
            _pools.pop(pool.loop, None)


def _leave(pools: dict[Place, Pool]) -> None:
    for pool in pools.values():
        pool.leave()


def _forked() -> None:
    """In the child of a fork: the connections are the parent's, whose loop does not run here."""
    global _lock  # noqa: PLW0603  # the parent may have held the old one
    _lock = threading.Lock()
    for pools in _pools.values():
        _leave(pools)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _leave_all() -> None:
    for loop, pools in list(_pools.items()):
        if not loop.is_running():
            _leave(pools)


def _base_of(url: str) -> str:
    try:
        base = URL(url)
    except ValueError as error:
        raise ConfigurationError(f"{shown(url)!r} is no address of a control plane: {error}") from None
    strange = base.query_string or base.fragment or any(c.isspace() for c in url)
    if base.scheme not in ("http", "https") or not base.host or strange:
        raise ConfigurationError(f"{shown(url)!r} is no address of a control plane; give host and port")
    return str(base).rstrip("/")


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    return body if body is None or len(body) < LARGE else io.BytesIO(body)


@lru_cache(maxsize=1024)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


def _timeout(settings: ClientSettings, wait: float | None, left: float | None) -> aiohttp.ClientTimeout:
    return _client_timeout(math.ceil(answer_within(settings, wait, left) * 10) / 10, settings.connect_timeout)


@lru_cache(maxsize=1024)
def _client_timeout(total: float, connect: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total, sock_connect=connect)


def _translated(error: aiohttp.ClientError | OSError) -> Trouble | ArrieroError:
    """What an error of aiohttp means."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return ControlPlaneUnavailable(f"the control plane shows a certificate that is not trusted: {error}")
        case aiohttp.InvalidURL():
            return ConfigurationError("the address of the control plane cannot be used; give host and port")
        case aiohttp.ClientResponseError():
            return ProtocolError(f"what answers at the control plane's address does not speak HTTP ({error.message})")
        case _:
            return trouble_of(error)


def trouble_of(error: aiohttp.ClientError | OSError) -> Trouble:
    """What a connection that was not made, or that broke, means."""
    match error:
        case aiohttp.ClientConnectorError():
            return Trouble(Kind.REFUSED, f"cannot be reached ({_cause(error.os_error)})")
        case aiohttp.ConnectionTimeoutError():
            return Trouble(Kind.REFUSED, "does not accept the connection in time")
        case TimeoutError():
            return Trouble(Kind.SILENT, "does not answer in time")
        case aiohttp.WSServerHandshakeError():
            return Trouble(Kind.DROPPED, f"answers with status {error.status}")
        case _:
            return Trouble(Kind.DROPPED, "closed the connection")


def _cause(error: OSError) -> str:
    known = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
    return (known or type(error).__name__).lower()
