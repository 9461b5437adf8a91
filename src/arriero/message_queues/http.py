"""One pooled HTTP session for many requests, closed with its event loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec

from arriero.types.credentials import bearer_headers
from arriero.types.errors import ConfigurationError

if TYPE_CHECKING:
    import aiohttp

#: Seconds for a connection to be made.
CONNECT_TIMEOUT = 5.0


class ClientOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The documented ``client_kwargs``. ``timeout`` is for a whole request, in seconds; None waits for ever."""

    headers: dict[str, str] = {}
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = 60.0
    verify: bool = True

    @classmethod
    def read(cls, client_kwargs: Mapping[str, Any] | None) -> Self:
        """From a mapping. Errors: ``ConfigurationError``."""
        try:
            return msgspec.convert(dict(client_kwargs or {}), cls)
        except msgspec.ValidationError as error:
            names = ", ".join(cls.__struct_fields__)
            raise ConfigurationError(f"client_kwargs takes {names}: {error}") from error

    def authorized(self, url: str) -> dict[str, str]:
        """The headers with this process's token for that address, unless ``headers`` bring their own."""
        return {} if any(name.lower() == "authorization" for name in self.headers) else bearer_headers(url)

    def session(self) -> aiohttp.ClientSession:
        """A new session."""
        import aiohttp

        return aiohttp.ClientSession(
            headers=self.headers,
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=CONNECT_TIMEOUT),
            connector=aiohttp.TCPConnector(ssl=self.verify, limit=0),
        )


class HttpPool:
    """Gives each event loop one session, made on first use; it is closed when the loop shuts down, or before."""

    def __init__(self, client_kwargs: Mapping[str, Any] | None = None) -> None:
        self._options = ClientOptions.read(client_kwargs)
        self._keepers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Keeper] = weakref.WeakKeyDictionary()

    async def session(self) -> aiohttp.ClientSession:
        """The session of the running loop."""
        loop = asyncio.get_running_loop()
        keeper = self._keepers.get(loop)
        if keeper is None or keeper.session.closed:
            for old in [old for old in self._keepers if old.is_closed()]:
                del self._keepers[old]
            keeper = self._keepers[loop] = _Keeper(self._options)
            await keeper.start()
        return keeper.session

    async def aclose(self) -> None:
        """Close the session of the running loop."""
        keeper = self._keepers.pop(asyncio.get_running_loop(), None)
        if keeper is not None:
            await keeper.aclose()


class _Keeper:
    """Holds a session in an asynchronous generator, which a loop finalises when it shuts down."""

    def __init__(self, options: ClientOptions) -> None:
        self.session = options.session()
        self._held = _hold(self.session)

    async def start(self) -> None:
        await self._held.__anext__()

    async def aclose(self) -> None:
        await self._held.aclose()


async def _hold(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()
