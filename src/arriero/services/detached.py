"""A service that was never registered: it takes documented messages and publishes documented answers.

It is the same worker on a core of its own that keeps everything in memory, so that what it promises ends with its
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from arriero.core import records
from arriero.core.core import Core
from arriero.core.local_link import LocalLink
from arriero.core.records import ServiceRecord
from arriero.message_queues import MemoryMessageQueue
from arriero.message_queues.base import MessageQueue
from arriero.orchestrators import SimpleOrchestrator
from arriero.state_stores import open_store
from arriero.types.messages import CONTROL_PLANE_NAME, ActionTypes, QueueMessage
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskDefinition, TaskResult, TaskStream

if TYPE_CHECKING:
    from arriero.services.base import BaseService
    from arriero.services.worker import Worker


class Detached:
    """Runs tasks that come as messages, for one service, until it is closed."""

    def __init__(self, service: BaseService, make_worker: Callable[[LocalLink, MessageQueue], Worker]) -> None:
        self._service = service
        self._make_worker = make_worker
        self._stack = AsyncExitStack()
        self._streams: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start the core and its worker."""
        service = self._service
        queue = MemoryMessageQueue()
        store = await self._stack.enter_async_context(open_store("memory:"))
        config = ControlPlaneConfig(topic_namespace=service.topic_namespace)
        orchestrator = SimpleOrchestrator(final_message_type=None)
        self._core = await self._stack.enter_async_context(Core(store, queue, orchestrator, config))
        await self._core.services.register(ServiceRecord(name=service.service_name, linked=True))
        worker = self._make_worker(LocalLink(self._core), queue)
        work = asyncio.create_task(worker.run(), name=f"detached {service.service_name}")
        self._stack.push_async_callback(_ended, work)
        await worker.ready.wait()

    async def take(self, message: QueueMessage) -> None:
        """Run the task of a ``NEW_TASK`` message; its events and its result are published."""
        data = message.data.get("task", message.data)
        task = TaskDefinition.model_validate({**data, "service_id": self._service.service_name, "agent_id": None})
        await self._core.messages.take(
            QueueMessage(action=ActionTypes.NEW_TASK, data=task.model_dump(mode="json", exclude={"agent_id"}))
        )
        stream = asyncio.create_task(self._publish_stream(task), name=f"stream of {task.task_id}")
        self._streams.add(stream)
        stream.add_done_callback(self._streams.discard)

    async def aclose(self) -> None:
        for stream in self._streams:
            stream.cancel()
        await self._stack.aclose()

    async def _publish_stream(self, task: TaskDefinition) -> None:
        index = 0
        async for page in self._core.streams.follow(task.task_id):
            for entry in page:
                event = records.ENTRY.decode(entry.value)
                if event.kind == "event":
                    await self._publish_event(task, msgspec.json.decode(event.data), index)
                    index += 1
        await self._publish_result(task)

    async def _publish_result(self, task: TaskDefinition) -> None:
        """The result goes out behind the last event."""
        record = await self._core.tasks.get(None, task.task_id)
        result = TaskResult(
            task_id=record.id,
            result=record.error.message if record.error else "",
            value=msgspec.json.decode(record.value),
            status=record.status,
            error=msgspec.to_builtins(record.error) if record.error else None,
            attempts=record.attempts,
        )
        await self._service.publish(
            QueueMessage(
                type=CONTROL_PLANE_NAME, action=ActionTypes.COMPLETED_TASK, data=result.model_dump(mode="json")
            )
        )

    async def _publish_event(self, task: TaskDefinition, data: dict[str, Any], index: int) -> None:
        stream = TaskStream(task_id=task.task_id, session_id=task.session_id, data=data, index=index)
        await self._service.publish(
            QueueMessage(type=CONTROL_PLANE_NAME, action=ActionTypes.TASK_STREAM, data=stream.model_dump())
        )


async def _ended(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
