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
from arriero.types.errors import ArrieroError, StoreDamaged, StoreUnavailable

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
    answers: list[tuple[asyncio.Future[Committed], Committed | ArrieroError]]


class Owner:
    """Serves all requests that are there at once: first the reads, then the commits as one group.

    ``written`` is called on the loop once for each group.
    """

    def __init__(self, database: Database, written: Callable[[Written], None]) -> None:
        self._database = database
        self._written = written
        self._requests: SimpleQueue[Read[Any] | Write | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="arriero-sqlite", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, request: Read[Any] | Write) -> None:
        self._requests.put(request)

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
            self._post(_answer_reads, [(read, self._done(read.work, self._database)) for read in reads])
        if writes:
            self._commit(writes)
        return None not in requests

    def _commit(self, writes: Sequence[Write]) -> None:
        outcome = self._done(self._write, writes)
        if isinstance(outcome, Written):
            self._post(self._written, outcome)
        elif isinstance(outcome, StoreDamaged) and len(writes) > 1:
            for write in writes:  # one of them touches what is damaged, and the others do not
                self._commit([write])
        else:
            self._post(_fail_writes, writes, outcome)

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
