"""A service that was never registered: it takes documented messages and publishes documented answers.

It is the same worker on a core of its own that keeps everything in memory. What came by the queue is acknowledged when
it is answered, so that a task ends with its process only if nobody else takes the message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError

from arriero.core import records
from arriero.core.core import Core
from arriero.core.local_link import LocalLink
from arriero.core.records import ServiceRecord
from arriero.message_queues import MemoryMessageQueue
from arriero.message_queues.base import Delivery, MessageQueue, Subscription
from arriero.orchestrators import SimpleOrchestrator
from arriero.state_stores import open_store
from arriero.types.errors import ArrieroError, InvalidInput, Unavailable
from arriero.types.link import ControlPlaneLink, Welcome
from arriero.types.messages import CONTROL_PLANE_NAME, ActionTypes, QueueMessage
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskDefinition, TaskResult, TaskStream

if TYPE_CHECKING:
    from arriero.services.base import BaseService
    from arriero.services.worker import Worker

logger = logging.getLogger("arriero.services")

#: How many tasks are remembered, so that one that comes again is not answered again.
REMEMBERED = 10_000
#: Seconds after which a message comes again whose answer could not be published.
AGAIN = 1.0


class Detached:
    """Runs tasks that come as messages, for one service, until it is closed.

    ``on_broken`` is called when its worker raised, as it does with ``raise_exceptions``, and what has ended is
    answered; :meth:`failure` raises it then.
    """

    def __init__(
        self,
        service: BaseService,
        make_worker: Callable[[ControlPlaneLink, MessageQueue, Callable[[Welcome], None]], Worker],
        on_broken: Callable[[], None],
    ) -> None:
        self.worker: Worker | None = None
        self._service = service
        self._make_worker = make_worker
        self._on_broken = on_broken
        self._stack = AsyncExitStack()
        self._opening: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Start the core and its worker, if that was not done."""
        if self._opening is None:
            self._opening = self._start(self._open(), "opening")
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        service = self._service
        queue = MemoryMessageQueue()
        store = await self._stack.enter_async_context(open_store("memory:"))
        config = ControlPlaneConfig(topic_namespace=service.topic_namespace)
        orchestrator = SimpleOrchestrator(final_message_type=None)
        self._core = await self._stack.enter_async_context(Core(store, queue, orchestrator, config))
        await self._core.services.register(ServiceRecord(name=service.service_name, linked=True))
        self.worker = self._make_worker(LocalLink(self._core), queue, _unheard)
        self._work = self._start(self.worker.run(), "worker")
        self._start(self._watch(), "watch")
        await self.worker.ready.wait()

    async def take(self, task: TaskDefinition, delivery: Delivery | None = None) -> asyncio.Task[None]:
        """Accept a task; gives what publishes its events and its result, and then acknowledges the delivery.

        A task that comes again is the same task. Errors: ``InvalidInput``, ``TaskConflict``.
        """
        if task.session_id is not None:
            await self._core.sessions.create(task.session_id)
        await self._core.messages.take(
            QueueMessage(action=ActionTypes.NEW_TASK, data=task.model_dump(mode="json", exclude={"agent_id"}))
        )
        answer = self._answers.get(task.task_id)
        if answer is None or _failed(answer):
            answer = self._answers[task.task_id] = self._start(self._answer(task, delivery), f"task {task.task_id}")
            self._forget_some()
        return answer

    async def listen(self, subscription: Subscription) -> None:
        """Take what comes until cancelled, and then finish what was begun."""
        try:
            async for delivery in subscription:
                self._start(self._receive(delivery), "delivery")
        finally:
            await self._finish()

    async def failure(self) -> None:
        """Raise what the worker raised."""
        await self._work

    async def aclose(self) -> None:
        """Finish what was begun, within the service's time to drain, and end."""
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._finish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def _finish(self) -> None:
        if self.worker is not None:
            await self.worker.drain(self._service.options.drain)
            await self._answer_what_ended()

    async def _answer_what_ended(self) -> None:
        for task_id, answer in list(self._answers.items()):
            if not answer.done() and (await self._core.tasks.get(None, task_id)).ended:
                await asyncio.wait({answer})

    async def _receive(self, delivery: Delivery) -> None:
        try:
            task = task_of(delivery.message, self._service.service_name)
            await asyncio.shield(await self.take(task, delivery))
        except Unavailable:
            await delivery.nack(AGAIN)
        except ArrieroError as error:
            await delivery.reject(str(error))
        else:
            await delivery.ack()  # a task that came again has been answered to the first delivery

    async def _watch(self) -> None:
        await asyncio.wait({self._work})
        if not self._work.cancelled():
            await self._answer_what_ended()
            self._on_broken()

    async def _answer(self, task: TaskDefinition, delivery: Delivery | None) -> None:
        index = 0
        async for page in self._core.streams.follow(task.task_id):
            for entry in page:
                event = records.ENTRY.decode(entry.value)
                if event.kind == "event":
                    await self._publish_event(task, msgspec.json.decode(event.data), index)
                    index += 1
        await self._publish_result(task)
        if delivery is not None:
            await delivery.ack()

    async def _publish_result(self, task: TaskDefinition) -> None:
        """The result goes out behind the last event."""
        record = await self._core.tasks.wait(await self._core.tasks.get(None, task.task_id), 0)
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

    def _forget_some(self) -> None:
        if len(self._answers) > REMEMBERED:
            done = [task_id for task_id, answer in self._answers.items() if answer.done()]
            for task_id in done[: REMEMBERED // 10]:
                del self._answers[task_id]

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"detached {self._service.service_name}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if _failed(task):
            logger.warning("%s: %s", task.get_name(), task.exception())


def _unheard(_: Welcome) -> None:
    """It is no control plane that the service is connected to."""


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


def task_of(message: QueueMessage, service_name: str) -> TaskDefinition:
    """The task in a ``NEW_TASK`` message to a service, in either documented form. Errors: ``InvalidInput``."""
    if message.action is not ActionTypes.NEW_TASK:
        raise InvalidInput(f"service {service_name!r} takes new_task, not {message.action!r}")
    data = message.data.get("task", message.data)
    try:
        task = TaskDefinition.model_validate({**data, "service_id": service_name, "agent_id": None})
    except (ValidationError, TypeError) as error:
        raise InvalidInput(f"the data of a new_task message is wrong: {error}") from error
    task.headers = {**message.headers, **task.headers}
    return task
