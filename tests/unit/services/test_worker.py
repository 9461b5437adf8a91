"""The worker's loop, on a link whose answers the test decides on, in the order that it wants."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from arriero.message_queues import MemoryMessageQueue
from arriero.services import worker as worker_module
from arriero.services.worker import Worker, WorkerOptions
from arriero.testing import VirtualTime
from arriero.types.errors import (
    ArrieroError,
    ControlPlaneUnavailable,
    Fenced,
    InternalError,
    InvalidInput,
    StoreDamaged,
    StoreUnavailable,
    TransientError,
)
from arriero.types.handling import Handled, HandlerContext
from arriero.types.ids import generate_token
from arriero.types.link import Event, Grant, Granted, Hello, Journal, OnOpen, Push, Report, Stop, Welcome
from arriero.types.messages import QueueMessage

RING = QueueMessage(type="work")


class Asked:
    """A claim or report that waits for its answer."""

    def __init__(self, what: Any) -> None:
        self.what = what
        self.answer: asyncio.Future[list[Grant]] = asyncio.get_running_loop().create_future()

    def give(self, *grants: Grant) -> None:
        self.answer.set_result(list(grants))

    def refuse(self, error: ArrieroError) -> None:
        self.answer.set_exception(error)


class HandLink:
    """The control plane's part is played by the test."""

    def __init__(self) -> None:
        self.claims: asyncio.Queue[Asked] = asyncio.Queue()
        self.reports: asyncio.Queue[Asked] = asyncio.Queue()
        self.emits: asyncio.Queue[Asked] = asyncio.Queue()
        self.released: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.refusal: ArrieroError | None = None
        self.journals: list[Journal] = []
        self.slow: list[float] = []
        self.stop: Callable[[Stop], None]

    async def open(self, hello: Callable[[], Hello], on_push: Callable[[Push], None], on_open: OnOpen) -> None:
        self.hello, self.stop, self.push, self.reopen = hello, on_push, on_push, on_open
        on_open(Welcome(link_id="l", lease=100.0, renew_every=100.0))

    async def claim(self, free: int) -> list[Grant]:
        return await self._ask(self.claims, free)

    async def report(self, report: Report) -> list[Grant]:
        return await self._ask(self.reports, report)

    async def emit(self, item_id: str, token: str, events: list[Event]) -> None:
        await self._ask(self.emits, events)

    async def journal(self, journal: Journal) -> None:
        self.journals.append(journal)
        await asyncio.sleep(self.slow.pop(0) if self.slow else 0)

    async def release(self, tokens: dict[str, str]) -> None:
        self.released.put_nowait(tokens)
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal

    def renew(self, worker_id: str) -> float:
        return 100.0

    async def aclose(self) -> None:
        """Nothing is open."""

    @staticmethod
    async def _ask(asked: asyncio.Queue[Asked], what: Any) -> list[Grant]:
        question = Asked(what)
        asked.put_nowait(question)
        return await question.answer


class Doing:
    """A handler of which the test hears, and which it ends."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[tuple[HandlerContext, asyncio.Future[Any]]] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.heeds = True
        self.accepts: dict[str, bool] = {}

    async def handle(self, context: HandlerContext) -> Handled:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.begun.put_nowait((context, done))
        while True:
            try:
                return Handled(await asyncio.shield(done))
            except asyncio.CancelledError:
                self.cancelled.put_nowait(context.grant.token)
                if self.heeds:
                    raise


class Scene:
    def __init__(self, worker: Worker, link: HandLink, doing: Doing, queue: MemoryMessageQueue) -> None:
        self.worker = worker
        self.link = link
        self.doing = doing
        self.queue = queue

    async def begun(self) -> tuple[HandlerContext, asyncio.Future[Any]]:
        return await self.doing.begun.get()

    async def begin(self, *grants: Grant) -> list[asyncio.Future[Any]]:
        """Answer the next claim, and wait until all is at work; gives what ends each."""
        (await self.link.claims.get()).give(*grants)
        return [(await self.begun())[1] for _ in grants]


def grant(item_id: str = "i", token: str | None = None) -> Grant:
    token = token or generate_token()
    return Grant(
        item_id=item_id, task_id="t", session_id="s", service="work", token=token, epoch=1, attempt=1, input="{}"
    )


@asynccontextmanager
async def at_work(slots: int = 1, doing: Doing | None = None) -> AsyncIterator[Scene]:
    link, doing, queue = HandLink(), doing or Doing(), MemoryMessageQueue()
    worker = Worker(WorkerOptions(service="work", slots=slots), doing, link, queue)
    running = asyncio.ensure_future(worker.run())
    await worker.ready.wait()
    try:
        yield Scene(worker, link, doing, queue)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def turns() -> None:
    """All that can be done without an answer is done."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_stop_that_overtakes_its_grant_keeps_the_item_from_beginning() -> None:
    async with at_work() as scene:
        gone, next_one = grant("gone"), grant("next")
        claim = await scene.link.claims.get()
        scene.link.stop(Stop(item_id="gone", token=gone.token, reason="timed_out"))
        claim.give(gone)
        [_] = await scene.begin(next_one)
        assert scene.worker.outstanding == 1
        assert scene.doing.begun.empty()


async def test_a_fault_of_the_control_plane_at_a_claim_leaves_the_worker_at_work() -> None:
    async with at_work(slots=2) as scene:
        await scene.begin(grant("a"))
        await scene.queue.publish(RING, topic="llama_deploy.work")
        (await scene.link.claims.get()).refuse(InternalError("a fault"))
        await scene.queue.publish(RING, topic="llama_deploy.work")
        await scene.begin(grant("b"))


async def test_a_stop_that_comes_with_its_grant_is_heeded() -> None:
    async with at_work() as scene:
        gone = grant("gone")
        (await scene.link.claims.get()).give(gone)
        scene.link.stop(Stop(item_id="gone", token=gone.token, reason="timed_out"))
        claim = await scene.link.claims.get()
        assert (claim.what, scene.worker.outstanding) == (1, 0)


async def test_an_item_that_comes_back_under_a_new_token_is_run_once_at_a_time() -> None:
    async with at_work(slots=2) as scene:
        old, new = grant("i"), grant("i")
        [_] = await scene.begin(old)
        await scene.queue.publish(RING, topic="llama_deploy.work")
        [done] = await scene.begin(new)
        assert await scene.doing.cancelled.get() == old.token
        assert scene.worker.outstanding == 1
        done.set_result(1)
        assert (await scene.link.reports.get()).what.token == new.token


async def test_a_stopped_item_frees_its_slot_whatever_its_handler_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LEAVE_PATIENCE", 0.01)
    async with at_work() as scene:
        scene.doing.heeds = False
        stuck = grant("stuck")
        await scene.begin(stuck)
        scene.link.stop(Stop(item_id="stuck", token=stuck.token, reason="timed_out"))
        [done] = await scene.begin(grant("next"))
        done.set_result("fine")
        assert bytes((await scene.link.reports.get()).what.value) == b'"fine"'
    scene.doing.heeds = True  # nobody waited for it; now the test may end


async def test_slots_that_crossing_claims_asked_for_are_asked_for_once_more_together() -> None:
    async with at_work(slots=4) as scene:
        grants = [grant(name) for name in "abc"]
        await scene.begin(*grants)
        claims = []
        for each in grants:
            scene.link.stop(Stop(item_id=each.item_id, token=each.token, reason="cancelled"))
            claims.append(await scene.link.claims.get())
        for claim in claims:
            claim.give()
        assert [claim.what for claim in claims] == [2, 1, 1]
        (last := await scene.link.claims.get()).give()
        assert last.what == 4
        await scene.queue.publish(RING, topic="llama_deploy.work")
        assert (await scene.link.claims.get()).what == 4
        assert scene.link.claims.empty()


@pytest.mark.shows("run.drain")
async def test_a_drain_waits_until_the_last_report_is_taken() -> None:
    async with at_work() as scene:
        [done] = await scene.begin(grant())
        done.set_result(1)
        report = await scene.link.reports.get()
        draining = asyncio.ensure_future(scene.worker.drain(30))
        await scene.queue.publish(RING, topic="llama_deploy.work")
        assert not draining.done()
        report.give()
        await draining
        assert scene.link.claims.empty()


@pytest.mark.shows("run.drain")
async def test_what_is_granted_to_a_worker_that_drains_is_given_back() -> None:
    async with at_work(slots=2) as scene:
        [done] = await scene.begin(grant("a"))
        await scene.queue.publish(RING, topic="llama_deploy.work")
        claim = await scene.link.claims.get()
        draining = asyncio.ensure_future(scene.worker.drain(30))
        late = grant("late")
        claim.give(late)
        assert await scene.link.released.get() == {"late": late.token}
        done.set_result(1)
        (await scene.link.reports.get()).give()
        await draining


async def test_what_goes_back_does_so_when_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "REPORT_PAUSE", 0.0)
    async with at_work(slots=2) as scene:
        [done] = await scene.begin(grant("a"))
        await scene.queue.publish(RING, topic="llama_deploy.work")
        claim = await scene.link.claims.get()
        draining = asyncio.ensure_future(scene.worker.drain(30))
        late = grant("late")
        scene.link.refusal = StoreUnavailable("the disk is full")
        claim.give(late)
        for _ in range(2):
            assert await scene.link.released.get() == {"late": late.token}
        done.set_result(1)
        (await scene.link.reports.get()).give()
        await draining


async def test_what_comes_unasked_begins_at_once_where_there_is_a_slot() -> None:
    async with at_work(slots=2) as scene:
        assert scene.link.hello().takes
        (await scene.link.claims.get()).give()
        given = grant("given")
        scene.link.push(Granted(grants=[given]))
        context, done = await scene.begun()
        assert context.grant is given
        assert (scene.link.hello().free, scene.link.hello().held) == (1, {"given": given.token})
        done.set_result(1)
        assert (await scene.link.reports.get()).what.token == given.token


async def test_what_comes_unasked_to_a_full_worker_is_given_back() -> None:
    async with at_work() as scene:
        [done] = await scene.begin(grant())
        late = grant("late")
        scene.link.push(Granted(grants=[late]))
        assert await scene.link.released.get() == {"late": late.token}
        assert scene.link.claims.empty()
        assert scene.worker.outstanding == 1
        done.set_result(1)
        assert (await scene.link.reports.get()).what.free == 1


async def test_what_is_claimed_for_a_slot_that_was_filled_unasked_is_given_back() -> None:
    async with at_work(slots=2) as scene:
        claim = await scene.link.claims.get()
        scene.link.push(Granted(grants=[grant("given")]))
        [(_, done)] = [await scene.begun()]
        fits, late = grant("fits"), grant("late")
        claim.give(fits, late)
        assert (await scene.begun())[0].grant is fits
        assert await scene.link.released.get() == {"late": late.token}
        assert (scene.worker.outstanding, scene.link.hello().free) == (2, 0)
        done.set_result(1)
        assert (await scene.link.reports.get()).what.free == 1


@pytest.mark.parametrize("drains", [False, True])
async def test_what_comes_unasked_to_a_worker_that_takes_nothing_is_given_back(drains: bool) -> None:
    async with at_work() as scene:
        (await scene.link.claims.get()).give()
        if drains:
            await scene.worker.drain(30)
        else:
            scene.worker.running = False
        late = grant("late")
        scene.link.push(Granted(grants=[late]))
        assert await scene.link.released.get() == {"late": late.token}
        assert (scene.worker.outstanding, scene.link.claims.empty()) == (0, True)
        scene.worker.running = True
        assert (await scene.link.claims.get()).what == 1


async def test_a_drain_that_takes_too_long_ends_nevertheless() -> None:
    async with at_work() as scene:
        await scene.begin(grant())
        await scene.worker.drain(0.01)
        assert scene.worker.outstanding == 1


@pytest.mark.parametrize("error", [InvalidInput("too much"), StoreDamaged("the task cannot be read")])
async def test_a_value_that_cannot_be_taken_makes_a_failure_of_its_item(error: ArrieroError) -> None:
    async with at_work() as scene:
        [done] = await scene.begin(grant())
        done.set_result("a value")
        (await scene.link.reports.get()).refuse(error)
        failed = await scene.link.reports.get()
        assert failed.what.error.code == error.code
        failed.refuse(error)
        claim = await scene.link.claims.get()
        assert (claim.what, scene.worker.outstanding) == (1, 0)


async def test_a_report_that_is_fenced_frees_its_slot() -> None:
    async with at_work() as scene:
        [done] = await scene.begin(grant())
        done.set_result(1)
        (await scene.link.reports.get()).refuse(Fenced("claimed again"))
        assert (await scene.link.claims.get()).what == 1


@pytest.mark.shows("down.results")
async def test_a_report_waits_for_a_store_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "REPORT_PAUSE", 0.0)
    async with at_work() as scene:
        [done] = await scene.begin(grant())
        done.set_result(1)
        for _ in range(3):
            (await scene.link.reports.get()).refuse(StoreUnavailable("disk full"))
        report = await scene.link.reports.get()
        assert (bytes(report.what.value), report.what.error) == (b"1", None)


@pytest.mark.shows("fencing.told")
async def test_events_that_are_fenced_stop_their_handler() -> None:
    async with at_work() as scene:
        mine = grant()
        (await scene.link.claims.get()).give(mine)
        context, _ = await scene.begun()
        context.emit({"a": 1})
        (await scene.link.emits.get()).refuse(Fenced("claimed again"))
        assert await scene.doing.cancelled.get() == mine.token
        assert (await scene.link.claims.get()).what == 1


async def test_events_beyond_a_frame_go_in_several_and_the_rest_with_the_report() -> None:
    async with at_work() as scene:
        (await scene.link.claims.get()).give(grant())
        context, done = await scene.begun()
        for number in range(5):
            context.emit({"number": number, "text": "x" * 6_000_000}, last=True)
        done.set_result(None)
        sent: list[Event] = []
        while scene.link.reports.empty():
            frame = await scene.link.emits.get()
            assert sum(len(bytes(event.data)) for event in frame.what) <= 16 * 1024 * 1024
            sent += frame.what
            frame.give()
            if len(sent) == 4:
                break
        sent += (await scene.link.reports.get()).what.events
        assert [event.number for event in sent] == list(range(5))


class Vile(Exception):
    """Nothing of it can be asked for."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")

    @property
    def step(self) -> str:
        raise RuntimeError("nor this")

    @property
    def status_code(self) -> int:
        raise RuntimeError("nor that")


@pytest.mark.parametrize(
    ("error", "type"),
    [
        (Vile(), "Vile"),
        (InvalidInput("with what is no JSON", inside=object(), nan=float("nan")), "InvalidInput"),
        (TransientError("later", retry_after=1.0), "TransientError"),
        (ValueError("\ud83e" + "x" * 1_000_000), "ValueError"),
        (BaseException("low"), "BaseException"),
        (SystemExit(3), "SystemExit"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError("of its own"), "CancelledError"),
        (StopIteration("over"), "RuntimeError"),
    ],
)
async def test_whatever_a_handler_raises_is_reported_in_a_form_that_can_be_sent(
    error: BaseException, type: str
) -> None:
    class Raising:
        async def handle(self, context: HandlerContext) -> Handled:
            raise error

    link = HandLink()
    worker = Worker(WorkerOptions(service="work", slots=1), Raising(), link, MemoryMessageQueue())
    running = asyncio.ensure_future(worker.run())
    (await link.claims.get()).give(grant())
    report = await link.reports.get()
    assert report.what.error.type == type
    assert len(msgspec.json.encode(report.what)) < 20_000
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.shows("time.stood-still")
async def test_an_answer_that_took_longer_than_a_lease_may_is_asked_for_again() -> None:
    time = VirtualTime()
    time.install(asyncio.get_running_loop())
    try:
        async with at_work() as scene:
            (await scene.link.claims.get()).give(grant("a"))
            context, done = await scene.begun()
            await context.record({"step": 1})
            scene.link.slow = [60.0, 1.0]
            await context.record({"step": 2})
            assert [journal.number for journal in scene.link.journals] == [0, 1, 1]
            done.set_result(1)
            (await scene.link.reports.get()).give()
    finally:
        time.remove()


@pytest.mark.shows("claim.acknowledged")
async def test_a_ring_is_acknowledged_when_its_claim_was_answered() -> None:
    async with at_work(slots=2) as scene:
        await scene.begin(grant("a"))
        for _ in range(2):
            await scene.queue.publish(RING, topic="llama_deploy.work")
        claim = await scene.link.claims.get()
        assert (await scene.queue.depth("llama_deploy.work"), scene.link.claims.empty()) == (1, True)
        claim.give()
        (await scene.link.claims.get()).give()
        assert await scene.queue.depth("llama_deploy.work") == 0


@pytest.mark.shows("claim.acknowledged")
async def test_a_ring_comes_again_when_the_control_plane_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "REPORT_PAUSE", 0.0)
    async with at_work(slots=2) as scene:
        await scene.begin(grant("a"))
        await scene.queue.publish(RING, topic="llama_deploy.work")
        for _ in range(3):
            (await scene.link.claims.get()).refuse(ControlPlaneUnavailable("it does not answer"))
        [_] = await scene.begin(grant("b"))


@pytest.mark.shows("end.report")
async def test_a_report_asks_for_the_next_item_and_brings_the_last_events() -> None:
    async with at_work() as scene:
        (await scene.link.claims.get()).give(grant("a"))
        context, done = await scene.begun()
        context.emit({"number": 0})
        (await scene.link.emits.get()).give()
        context.emit({"number": 1})
        done.set_result(1)
        report = await scene.link.reports.get()
        assert (report.what.free, [event.number for event in report.what.events]) == (1, [1])
        report.give(grant("b"))
        context, _ = await scene.begun()
        assert context.grant.item_id == "b"
        assert scene.link.claims.empty()


async def test_an_item_does_not_run_in_the_context_of_what_caused_it() -> None:
    """In one process that may be a step of another item, which calls this one."""
    word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="the worker's own")

    class Listens(Doing):
        async def handle(self, context: HandlerContext) -> Handled:
            said.append(word.get())
            return await super().handle(context)

    said: list[str] = []
    async with at_work(doing=Listens()) as scene:
        (await scene.link.claims.get()).give()
        word.set("the caller's")
        scene.link.push(Granted(grants=[grant()]))
        await scene.begun()
    assert said == ["the worker's own"]


async def test_a_ring_that_overtakes_the_answer_to_a_claim_is_followed_by_another_claim() -> None:
    """The item may have come when the control plane had answered that there is none."""
    async with at_work() as scene:
        claim = await scene.link.claims.get()
        await scene.queue.publish(RING, topic="llama_deploy.work")
        await turns()
        assert await scene.queue.depth("llama_deploy.work") == 0
        claim.give()
        await scene.begin(grant())


async def test_a_ring_that_overtakes_what_a_claim_brings_needs_no_other_claim_by_a_full_worker() -> None:
    async with at_work() as scene:
        claim = await scene.link.claims.get()
        await scene.queue.publish(RING, topic="llama_deploy.work")
        await turns()
        assert await scene.queue.depth("llama_deploy.work") == 0
        claim.give(grant())
        await scene.begun()
        await turns()
        assert scene.link.claims.empty()
