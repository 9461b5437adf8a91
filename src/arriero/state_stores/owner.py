"""The thread that owns the database of a SQLite store: requests go in, answers come out, in its order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from arriero.state_stores.base import Committed
from arriero.state_stores.database import Database
from arriero.state_stores.plans import Group, Plan
from arriero.types.errors import ArrieroError, Conflict, StoreDamaged, StoreUnavailable

logger = logging.getLogger("arriero.state_stores")

T = TypeVar("T")

#: Most requests that are served at once.
MOST_REQUESTS = 1024


@dataclass(slots=True)
class Read(Generic[T]):
    """Something to read. ``keep`` is called with it on the loop, in the order of the thread, whoever still waits."""

    work: Callable[[Database], T]
    answer: asyncio.Future[T]
    keep: Callable[[T], None] | None = None


@dataclass(slots=True)
class Write:
    """A commit."""

    plan: Plan
    durable: bool
    answer: asyncio.Future[Committed]


@dataclass(slots=True)
class Written:
    """A group of commits that was written: the answer to each, and all that has changed."""

    group: Group
    durable: bool
    answers: list[tuple[asyncio.Future[Committed] | None, Committed | Conflict]]


class Owner:
    """Serves all requests that are there at once: first the reads, then the commits as one group.

    ``written`` is called on the loop once for each group. While nothing is under way the thread waits and touches
    nothing, so that the loop may use the database itself.
    """

    def __init__(self, database: Database, written: Callable[[Written], None]) -> None:
        self._database = database
        self._written = written
        self._requests: SimpleQueue[Read[Any] | Write | None] = SimpleQueue()
        self._under_way = 0
        self._crowded = False
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="arriero-sqlite", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, request: Read[Any] | Write) -> None:
        self._under_way += 1
        self._requests.put(request)

    def write_now(self, plan: Plan) -> Committed | Conflict | None:
        """Write a small commit that waits for no disk, here and now; None when it is better left to the thread.

        To wake the thread and to be woken by it takes longer than such a commit. When several come at once they are
        written as one group, though, by the thread.
        """
        if self._under_way or self._crowded or not plan.is_small:
            return None
        self._crowded = True
        self._loop.call_soon(self._calm)
        try:
            group, [answer] = self._database.guarded(lambda: self._database.commit([plan], durable=False, at_once=True))
        except ArrieroError:  # the thread tries it again: with patience for what holds the file, and finds the words
            return None
        self._written(Written(group, durable=False, answers=[(None, answer)]))
        return answer

    def _calm(self) -> None:
        self._crowded = self._under_way > 1

    def stop(self) -> None:
        """Serve what was submitted, close the database, end."""
        self._requests.put(None)

    def _run(self) -> None:
        failure = self._done(self._database.open)
        self._post(settle, self.opened, failure)
        if failure is not None:
            self._post(settle, self.ended, None)
            return
        while self._serve(self._take()):
            pass
        self._post(settle, self.ended, self._done(self._database.close))

    def _take(self) -> list[Read[Any] | Write | None]:
        requests = [self._requests.get()]
        # Nobody else takes from the queue, so what it holds can be taken without waiting.
        requests += [self._requests.get_nowait() for _ in range(min(self._requests.qsize(), MOST_REQUESTS))]
        return requests

    def _serve(self, requests: Sequence[Read[Any] | Write | None]) -> bool:
        reads = [request for request in requests if isinstance(request, Read)]
        writes = [request for request in requests if isinstance(request, Write)]
        if reads:
            self._answer(len(reads), _answer_reads, [(read, self._done(read.work, self._database)) for read in reads])
        if writes:
            self._commit(writes)
        return None not in requests

    def _commit(self, writes: Sequence[Write]) -> None:
        outcome = self._done(self._write, writes)
        if isinstance(outcome, Written):
            self._answer(len(writes), self._written, outcome)
        elif isinstance(outcome, StoreDamaged) and len(writes) > 1:
            for write in writes:  # one of them touches what is damaged, and the others do not
                self._commit([write])
        else:
            self._answer(len(writes), _fail_writes, writes, outcome)

    def _write(self, writes: Sequence[Write]) -> Written:
        durable = any(write.durable for write in writes)
        group, answers = self._database.commit([write.plan for write in writes], durable=durable)
        return Written(group, durable, [(write.answer, answer) for write, answer in zip(writes, answers, strict=True)])

    def _done(self, work: Callable[..., T], *values: Any) -> T | ArrieroError:
        try:
            return self._database.guarded(lambda: work(*values))
        except ArrieroError as error:
            return error
        except Exception as error:  # an owner that dies would leave every caller waiting
            logger.exception("the owner of %s failed", self._database.path)
            return StoreUnavailable(f"the state store {self._database.path} failed: {type(error).__name__}: {error}")

    def _answer(self, count: int, action: Callable[..., None], *values: Any) -> None:
        self._post(self._answered, count, action, *values)

    def _answered(self, count: int, action: Callable[..., None], *values: Any) -> None:
        self._under_way -= count
        self._crowded = self._under_way > 0 or count > 1
        action(*values)

    def _post(self, action: Callable[..., None], *values: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(action, *values)
        except RuntimeError:  # the loop was closed with the store still open: nobody waits, and nobody will ask again
            self._requests.put(None)


def settle(answer: asyncio.Future[T], outcome: T | ArrieroError) -> None:
    """Give the outcome to who waits for it, if someone still does."""
    if answer.done():
        return
    if isinstance(outcome, ArrieroError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _answer_reads(answers: Sequence[tuple[Read[T], T | ArrieroError]]) -> None:
    for read, outcome in answers:
        if read.keep is not None and not isinstance(outcome, ArrieroError):
            read.keep(outcome)
        settle(read.answer, outcome)


def _fail_writes(writes: Sequence[Write], error: ArrieroError) -> None:
    for write in writes:
        own = type(error)(error.message, **error.details)
        own.__cause__ = error.__cause__
        settle(write.answer, own)
