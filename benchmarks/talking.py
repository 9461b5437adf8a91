"""A workflow that streams: so many events, a pause after each, each with the time at which it was made."""

from __future__ import annotations

import asyncio
import time

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Said(Event):
    made: float
    text: str


class Talking(Workflow):
    @step
    async def talk(self, ctx: Context, event: StartEvent) -> StopEvent:
        reader, writer = await asyncio.open_connection("127.0.0.1", event.gate)
        await reader.read()  # closed when the readers are there
        writer.close()
        for _ in range(event.count):
            ctx.write_event_to_stream(Said(made=time.time(), text="x" * 64))
            await asyncio.sleep(event.pause)
        return StopEvent(result=event.count)
