"""A gate between a test and the steps of its workers: the test hears who has arrived, and lets them through."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Steps arrive by a connection, with a name, and stand there until the gate is opened for that name."""

    def __init__(self) -> None:
        self.port = 0
        self._all: set[asyncio.StreamWriter] = set()
        self._arrived: dict[str, asyncio.Queue[asyncio.StreamWriter]] = {}

    async def arrived(self, name: str) -> asyncio.StreamWriter:
        """Wait for the next arrival under this name; gives what :meth:`let` takes."""
        return await self._arrived.setdefault(name, asyncio.Queue()).get()

    def let(self, visitor: asyncio.StreamWriter) -> None:
        """Let one visitor through."""
        visitor.write(b"pass\n")
        visitor.close()

    async def open(self, name: str) -> None:
        """Let the next one of this name through."""
        self.let(await self.arrived(name))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._all.add(writer)
        name = (await reader.readline()).decode().strip()
        self._arrived.setdefault(name, asyncio.Queue()).put_nowait(writer)

    async def leave(self) -> None:
        """Send away whoever still stands there."""
        for writer in self._all:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._all), return_exceptions=True)


@asynccontextmanager
async def gate_here() -> AsyncIterator[Gate]:
    """A gate on a free port."""
    gate = Gate()
    server = await asyncio.start_server(gate.serve, "127.0.0.1", 0)
    gate.port = server.sockets[0].getsockname()[1]
    try:
        yield gate
    finally:
        server.close()
        await gate.leave()
        await server.wait_closed()


async def pass_gate(port: int, name: str) -> None:
    """Arrive, and wait until one is let through. Called by steps."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{name}\n".encode())
    try:
        if await reader.readline() != b"pass\n":
            raise ConnectionAbortedError("the gate was taken down")
    finally:
        writer.close()
