"""The whole system in one event loop, on a clock that waits for nothing: to test one's own workflows."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from arriero.client.answers import end_error
from arriero.client.entries import TaskEntry
from arriero.client.events import SentEvent, definition_of
from arriero.control_plane import answers
from arriero.control_plane.events import sent_event
from arriero.core import names, records
from arriero.core.core import Core
from arriero.core.records import TaskRecord
from arriero.core.tasks import Submission
from arriero.message_queues.memory import MemoryMessageQueue
from arriero.orchestrators import SimpleOrchestrator
from arriero.orchestrators.base import BaseOrchestrator
from arriero.services.config import WorkflowServiceConfig
from arriero.services.handlers import WorkflowOptions
from arriero.services.worker import WorkerOptions
from arriero.state_stores.memory import MemoryStore
from arriero.testing.counting import CountedFunction, OnStep, counted_workflow
from arriero.testing.virtual_time import VirtualTime
from arriero.testing.wires import Network
from arriero.testing.world import Hand, World
from arriero.types.errors import ConfigurationError, Unavailable, WaitTimeout
from arriero.types.handling import Handler
from arriero.types.ids import generate_id
from arriero.types.jsonvalue import encode_json
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskDefinition

if TYPE_CHECKING:
    from workflows import Workflow

T = TypeVar("T")

#: Seconds of virtual time after which a result is not waited for any longer.
PATIENCE = 24 * 3600.0
#: Seconds until a control plane is asked again that was not there.
AGAIN = 0.1
PAGE = 1000


class Harness:
    """A control plane, workers and a client, for as long as the block that it is entered for::

        async with Harness() as h:
            await h.serve(MyWorkflow, "mine")
            assert await h.run("mine", x=1) == "2"

    Nothing listens, nothing is written to a disk, and no time is waited for: the loop's time jumps to the next timer
    whenever all that could run has run (see :class:`~arriero.testing.VirtualTime`). The rest is the real thing: every
    frame between worker and control plane is written and read, and a worker that is killed loses what it held.

    ``settings`` are those of ``ControlPlaneConfig``, such as ``lease``.
    """

    def __init__(self, orchestrator: BaseOrchestrator | None = None, **settings: Any) -> None:
        self.time = VirtualTime()
        #: How often each step of each service has begun, over all workers.
        self.steps: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._orchestrator = orchestrator or SimpleOrchestrator(3, None)
        self._config = ControlPlaneConfig(**settings)
        self._session: str | None = None

    async def __aenter__(self) -> Self:
        self.time.install(asyncio.get_running_loop())
        self.store = await MemoryStore().open()
        network = Network()
        queue = MemoryMessageQueue()
        clock = self.time.time_of_day
        #: Control plane and workers, to be ended and started one by one.
        self.world = World(self.store, queue, network, self._orchestrator, self._config, clock)
        await self.world.start_core()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.world.aclose()
        finally:
            self.time.remove()

    # Parts

    async def serve(self, what: Workflow | Callable[..., Any], name: str, **settings: Any) -> Hand:
        """A worker that serves a workflow or a function under this name; call it again for more of them.

        A workflow may be given by its class: then each start of the worker makes one of its own.
        ``settings`` are those of ``WorkflowServiceConfig``. The worker's ``kill()`` ends it without a word, ``stop()``
        in peace, and ``start()`` begins again.
        """
        config = WorkflowServiceConfig(service_name=name, **settings)
        return await self._serve(_maker(what, config, lambda step: self._begun(name, step)), config)

    async def serve_made(self, make: Callable[[], Workflow], name: str, **settings: Any) -> Hand:
        """The same with what makes the workflow, which is called at each start of the worker."""
        config = WorkflowServiceConfig(service_name=name, **settings)
        return await self._serve(_workflow_maker(make, config, lambda step: self._begun(name, step)), config)

    async def _serve(self, make: Callable[[], Handler], config: WorkflowServiceConfig) -> Hand:
        options = WorkerOptions(
            service=config.service_name,
            slots=config.max_concurrent_tasks,
            description=config.description,
            parallel=config.session_concurrency == "parallel",
            max_queue=config.max_queue,
        )
        hand = self.world.hand(options, make)
        await hand.start()
        return hand

    async def kill_core(self) -> None:
        """End the control plane without a word; what it has accepted is kept."""
        await self.world.kill_core()

    async def start_core(self) -> None:
        """Start it on what was kept."""
        await self.world.start_core()

    async def restart_core(self) -> None:
        """Both, at one moment."""
        await self.kill_core()
        await self.start_core()

    # Time

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, and let everything be done that is due by then."""
        await self.time.advance(seconds)

    async def settle(self) -> None:
        """Wait until nothing is left to do before time passes."""
        await self.time.settle()

    # Tasks

    async def run(self, service: str, /, **arguments: Any) -> str:
        """Run a service in the harness's own session; gives its result as text. Errors as from a client's ``run``."""
        return await (await self.submit(service, arguments)).text()

    async def call(self, service: str, /, **arguments: Any) -> Any:
        """The same, with the result as the JSON value that it is."""
        return await (await self.submit(service, arguments)).result()

    async def start(self, service: str, /, **arguments: Any) -> HarnessTask:
        """Submit a task to the harness's own session; gives it as soon as it is stored."""
        return await self.submit(service, arguments)

    async def submit(
        self,
        service: str,
        arguments: dict[str, Any],
        *,
        session: str | None = None,
        deadline: float | None = None,
        task_id: str | None = None,
    ) -> HarnessTask:
        """Submit a task with all that may be said of it. Submitted again under its id, it is the same task."""
        if session is None:
            session = self._session = self._session or await self.session()
        given, told = session, task_id or generate_id()
        text = encode_json(arguments, "the arguments").decode()
        submission = Submission(input=text, service_id=service, deadline=deadline, task_id=told)
        record = await self.ask(lambda core: core.tasks.submit(given, submission))
        return HarnessTask(self, record)

    async def session(self, session_id: str | None = None) -> str:
        """A new session; gives its id."""
        told = session_id or generate_id()
        return await self.ask(lambda core: core.sessions.create(told))

    async def ask(self, question: Callable[[Core], Coroutine[Any, Any, T]]) -> T:
        """Ask the control plane, again and again while it is not there."""
        while True:
            try:
                return await self.world.ask(question)
            except Unavailable:
                await asyncio.sleep(AGAIN)  # it says to nobody when it is back

    def _begun(self, service: str, step: str) -> None:
        self.steps[service][step] += 1


class HarnessTask:
    """A task that was accepted."""

    def __init__(self, harness: Harness, record: TaskRecord) -> None:
        self._harness = harness
        self._record = record

    @property
    def id(self) -> str:
        """Its id."""
        return self._record.id

    @property
    def session_id(self) -> str:
        """The id of its session."""
        return self._record.session_id

    async def result(self, within: float = PATIENCE) -> Any:
        """The result as the JSON value that it is, when there is one.

        Errors: ``TaskFailed``, ``TaskCancelled``, ``TaskTimedOut`` or ``TaskDead`` as it ended; ``WaitTimeout`` after
        so many seconds of virtual time.
        """
        return msgspec.json.decode((await self._completed(within)).value)

    async def text(self, within: float = PATIENCE) -> str:
        """The same as text: a string as it is, all else as JSON."""
        return answers.result_view(await self._completed(within)).result

    async def ended(self, within: float = PATIENCE) -> TaskDefinition:
        """The task as it ended, in whichever way. Errors: ``WaitTimeout``."""
        return answers.definition_of(await self._end(within))

    async def status(self) -> TaskDefinition:
        """The task as it is now."""
        return answers.definition_of(await self._ask(lambda core: core.tasks.show(self.session_id, self.id)))

    async def send(self, event: SentEvent, service: str | None = None) -> None:
        """Send it an event from outside. Errors as from a client's ``send_event``."""
        body = definition_of(service or self._record.service, event).model_dump_json().encode()
        sent = sent_event(body, generate_id())
        await self._ask(lambda core: core.inbox.send(self.session_id, self.id, sent))

    async def cancel(self, reason: str = "a test says so") -> None:
        """End it as cancelled."""
        await self._ask(lambda core: core.tasks.cancel(self.session_id, self.id, reason))

    async def entries(self) -> list[TaskEntry]:
        """What its stream holds now."""
        found: list[TaskEntry] = []
        while page := await self._harness.store.read_log(names.stream_log(self.id), len(found), PAGE):
            found += [_entry(entry.seq, records.ENTRY.decode(entry.value)) for entry in page]
        return found

    async def event(self, type: str, within: float = PATIENCE) -> dict[str, Any]:
        """The fields of the first event of a class of that name, when there is one.

        Errors: ``WaitTimeout``, also if the task ends without one.
        """
        seen = 0
        try:
            async with asyncio.timeout(within):
                async for head in self._harness.store.watch(names.stream_log(self.id)):
                    for entry in (await self.entries())[seen:]:
                        if entry.type == type and entry.data is not None:
                            return entry.data
                    seen = head.seq
        except TimeoutError:
            raise WaitTimeout(f"task {self.id} had no event {type!r} within {within:g} s") from None
        raise WaitTimeout(f"task {self.id} ended without an event {type!r}")

    async def _completed(self, within: float) -> TaskRecord:
        record = await self._end(within)
        if record.error is not None:
            raise end_error(record.id, record.status, record.error)
        return record

    async def _end(self, within: float) -> TaskRecord:
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        record = self._record
        while not record.ended:
            if loop.time() >= until:
                raise WaitTimeout(f"task {self.id} has not ended within {within:g} s; {await self._waits_for()}")
            record = await self._ask(lambda core: core.tasks.get(None, self.id))
            record = await self._ask(lambda core, seen=record: core.tasks.wait(seen, until - loop.time()))
        self._record = record
        return record

    async def _waits_for(self) -> str:
        shown = await self.status()
        return f"it is {shown.status} and waits for {shown.waits_for or 'nothing that is known'}"

    async def _ask(self, question: Callable[..., Coroutine[Any, Any, T]]) -> T:
        return await self._harness.ask(question)


def _entry(seq: int, entry: records.StreamEntry) -> TaskEntry:
    return TaskEntry(
        id=str(seq),
        kind=entry.kind,
        type=entry.type,
        path=entry.path,
        data=msgspec.json.decode(entry.data),
        last=entry.last,
        status=entry.status,
        error=entry.error,
        at=entry.at,
    )


def _maker(
    what: Workflow | Callable[..., Any], config: WorkflowServiceConfig, on_step: OnStep
) -> Callable[[], Handler]:
    """What makes the handler of a service."""
    from workflows import Workflow

    if isinstance(what, Workflow):
        return _workflow_maker(lambda: what, config, on_step)
    if not callable(what):
        raise ConfigurationError(f"a workflow or a function is served, not {type(what).__name__}")
    if isinstance(what, type) and issubclass(what, Workflow):
        return _workflow_maker(what, config, on_step)
    return lambda: CountedFunction(what, on_step)


def _workflow_maker(
    make: Callable[[], Workflow], config: WorkflowServiceConfig, on_step: OnStep
) -> Callable[[], Handler]:
    options = WorkflowOptions(config.durability, config.sends, config.linger)
    return lambda: counted_workflow(make(), options, on_step)
