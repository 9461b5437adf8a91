"""An OpenAI-compatible endpoint that answers as a test tells it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Endpoint:
    """``reply`` is the text that it writes; ``response`` is what it answers instead, if that is set."""

    url: str = ""
    reply: str = "At nine, says harbour.md."
    response: web.Response | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    #: Each request as it arrives, and what lets it go on.
    arrived: asyncio.Queue[asyncio.Event] | None = None

    async def complete(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        if self.arrived is not None:
            passed = asyncio.Event()
            self.arrived.put_nowait(passed)
            await passed.wait()
        if self.response is not None:
            return self.response
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": self.reply}}]})


@asynccontextmanager
async def endpoint_here() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", endpoint.complete)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield endpoint
    finally:
        await runner.cleanup()
