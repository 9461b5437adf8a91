"""One session as its users see it, asynchronously: what the session client and the SDK's ``Session`` have in common."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from types import EllipsisType
from typing import Any

from arriero.client import requests, runs
from arriero.client.caller import AsyncCaller
from arriero.client.entries import TaskEntry, entries_of, events_of
from arriero.client.events import SentEvent, definition_of
from arriero.types.history import TaskHistory
from arriero.types.jsonvalue import encode_json
from arriero.types.tasks import EventDefinition, TaskDefinition, TaskResult


class Session:
    """One session: its tasks, their results and streams, and its state.

    The client's ``timeout`` is in seconds and bounds every call, waiting for the control plane included; None is no
    limit. Every method raises ``ControlPlaneUnavailable`` when the control plane cannot be reached for that long, and
    ``UnknownSession`` when the session is gone. Whoever stops waiting stops at once; a task that was submitted goes on.
    """

    def __init__(self, caller: AsyncCaller, session_id: str) -> None:
        requests.segment("session id", session_id)
        self.session_id = session_id
        self.caller = caller

    @property
    def id(self) -> str:
        """The same as ``session_id``."""
        return self.session_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r})"

    # Running a service

    async def run(self, service_name: str, **kwargs: Any) -> str:
        """Run a service with these arguments, wait for its end, give its result as text.

        Errors: ``NotJSON`` before anything is sent when the arguments are not JSON; ``UnknownService``;
        ``TaskFailed``, ``TaskCancelled``, ``TaskTimedOut`` or ``TaskDead`` when the task does not succeed;
        ``WaitTimeout`` when it takes longer than ``timeout``, and then it goes on.
        """
        task = runs.call_of(self.session_id, service_name, kwargs)
        return await self.caller.converse(runs.run(task, self.caller.timeout, self.caller.longest_wait))

    async def call(
        self,
        service_name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline: float | None = None,
        idempotency_key: str | None = None,
        timeout: float | EllipsisType | None = ...,
    ) -> Any:
        """Run a service and give its result as the JSON value that it is. Errors as from :meth:`run`.

        ``deadline`` is how many seconds the task may take from its acceptance; ``timeout`` is how long this call waits
        (``...`` is as long as the client's). With an idempotency key a repeated call in this session gets the
        result of the first one, from whichever client it comes.
        """
        caller = self.caller if isinstance(timeout, EllipsisType) else await self.caller.within(timeout)
        task = runs.call_of(
            self.session_id,
            service_name,
            {} if arguments is None else arguments,
            deadline=deadline,
            idempotency_key=idempotency_key,
        )
        return await caller.converse(runs.call(task, caller.timeout, caller.longest_wait))

    async def run_nowait(self, service_name: str, **kwargs: Any) -> str:
        """Run a service with these arguments; gives the task's id as soon as it is stored."""
        return await self.caller.call(requests.submit(runs.call_of(self.session_id, service_name, kwargs)))

    # Tasks

    async def create_task(self, task_def: TaskDefinition, *, idempotency_key: str | None = None) -> str:
        """Submit a task, into this session; gives its id as soon as it is stored.

        The same task submitted again is the same task. With an idempotency key, the key decides on the task's id.
        """
        task_def.session_id = self.session_id
        if idempotency_key is not None:
            task_def.task_id = requests.new_task_id(self.session_id, idempotency_key)
        return await self.caller.call(requests.submit(requests.Submission.of(task_def, self.session_id)))

    async def get_tasks(self) -> list[TaskDefinition]:
        """The tasks of the session in the order of their submission, with their status."""
        return await self.caller.call_all(partial(requests.list_tasks, self.session_id))

    async def get_current_task(self) -> TaskDefinition | None:
        """The task that was submitted last."""
        return await self.caller.call(requests.current_task(self.session_id))

    async def get_task_result(self, task_id: str) -> TaskResult | None:
        """What came of a task, its error included, or None while it goes on."""
        return await self.caller.call(requests.get_result(self.session_id, task_id))

    async def status(self, task_id: str) -> TaskDefinition:
        """A task as it is now: its status, attempts, error, deadline and times."""
        return await self.caller.call(requests.get_task(self.session_id, task_id))

    async def cancel(self, task_id: str, *, reason: str | None = None) -> TaskDefinition:
        """End a task as cancelled, wherever it is: queued it never starts, running its handler is cancelled.

        Gives the task as it is then. A task that has ended stays as it is.
        """
        return await self.caller.call(requests.cancel(self.session_id, task_id, reason))

    # The past of tasks

    async def history(self, task_id: str, *, data: bool = False) -> TaskHistory:
        """Everything that has happened to a task, in order; with what events hold only if ``data``.

        It is there as long as the task, and shows one that goes on as far as it has come.
        """
        since = time.monotonic()
        found = await self.caller.call(requests.history(self.session_id, task_id, data=data), since)
        while found.following is not None:
            page = requests.history(self.session_id, task_id, found.following, data=data)
            more = await self.caller.call(page, since)
            found.entries += more.entries
            found.following = more.following
        return found

    async def fork(
        self,
        task_id: str,
        *,
        after_step: int | str,
        session_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Begin a task behind a finished step of one that has ended, on the workflow as it is now; gives its id.

        ``after_step`` counts the finished steps as the history does, or is ``name#k``; what ran up to there runs no
        more. ``session_id`` is the new task's, by default this one. Errors: ``NotEnded``; ``NotFound`` when no such
        step has finished; ``WorkflowChanged`` when the workflow's steps are others now.
        """
        wanted = requests.fork(self.session_id, task_id, after_step, session_id, idempotency_key)
        return await self.caller.call(wanted)

    async def replay(self, task_id: str, *, session_id: str | None = None, idempotency_key: str | None = None) -> str:
        """Begin a task with the input of one that has ended; gives its id. Errors: ``NotEnded``."""
        return await self.caller.call(requests.replay(self.session_id, task_id, session_id, idempotency_key))

    async def resume(self, task_id: str) -> TaskDefinition:
        """Let any worker go on with a task that waits because its workflow has changed; gives it as it is then.

        One whose workflow has other steps leaves it again. When a worker with the same steps connects, the task goes on
        by itself. Errors: ``NotStopped`` when it does not wait for that.
        """
        return await self.caller.call(requests.resume(self.session_id, task_id))

    async def restart(self, task_id: str) -> TaskDefinition:
        """Have a task that waits because its workflow has changed done from its beginning; gives it as it is then.

        What it had come to is forgotten. Errors: ``NotStopped`` when it does not wait for that.
        """
        return await self.caller.call(requests.restart(self.session_id, task_id))

    # Streams and events

    async def get_task_result_stream(self, task_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a task as they come, from the first on, each once and in order, until it ends.

        Dropped connections are resumed. A task that does not succeed raises as :meth:`run` does, after its events.
        ``timeout`` bounds the wait for the first event (``WaitTimeout``) and each outage, not the whole stream.
        """
        async with aclosing(self.caller.follow(self.session_id, task_id)) as pages:
            async for page in pages:
                for event in events_of(page, task_id):
                    yield event

    async def follow(self, task_id: str, *, after: str = "") -> AsyncGenerator[TaskEntry, None]:
        """Everything on the stream of a task, as it comes, behind the entry with the id ``after``.

        The last entry is the end, with the task's status and error; a task that does not succeed does not raise here.
        Connections and ``timeout`` as in :meth:`get_task_result_stream`.
        """
        async with aclosing(self.caller.follow(self.session_id, task_id, after)) as pages:
            async for page in pages:
                for entry in entries_of(page, task_id):
                    yield entry

    async def send_event(
        self, service_name: str, task_id: str, ev: SentEvent, *, idempotency_key: str | None = None
    ) -> None:
        """Send an event into a running task: a workflow's event, or the documented JSON object of one.

        When this returns the event is stored, and it will reach the run. Errors: ``UnknownTask``; ``UnknownEvent`` when
        the service takes no such event; ``AlreadyAnswered``; ``AlreadyEnded``.
        """
        await self.send_event_def(task_id, definition_of(service_name, ev), idempotency_key=idempotency_key)

    async def send_event_def(
        self, task_id: str, ev_def: EventDefinition, *, idempotency_key: str | None = None
    ) -> None:
        """Send an event in its documented form into a running task; as :meth:`send_event`."""
        await self.caller.call(requests.send_event(self.session_id, task_id, ev_def, idempotency_key))

    # State

    async def get_state(self) -> dict[str, Any]:
        """The state of the session."""
        return await self.caller.call(requests.get_state(self.session_id))

    async def update_state(self, changes: Mapping[str, Any]) -> None:
        """Merge these keys into the state of the session; its other keys stay."""
        body = encode_json(dict(changes), "the state")
        await self.caller.call(requests.update_state(self.session_id, body))
