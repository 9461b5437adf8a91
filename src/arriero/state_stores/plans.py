"""What a commit asks for, and the judgement over several commits that are written as one.

Nothing here does I/O, so that every store decides alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from arriero.state_stores.base import Append, Committed, Delete, Drop, Expect, Head, Op, Put
from arriero.state_stores.limits import check_name, check_value
from arriero.types.errors import Conflict, InvalidInput, LogEnded, StateConflict

#: A document's collection and key.
Place = tuple[str, str]

NO_HEAD = Head()
#: Most changes and bytes of a small commit.
SMALL_OPS = 16
SMALL_BYTES = 16 * 1024

#: Collections that were found in order, for most commits are about the same few.
_KNOWN: set[str] = set()
MOST_KNOWN = 256


@dataclass(slots=True)
class Plan:
    """One commit, checked and sorted: what it expects, the documents it leaves (None: gone), what it does to logs."""

    expected: list[tuple[Place, int]] = field(default_factory=list)
    documents: dict[Place, bytes | None] = field(default_factory=dict)
    logs: list[Append | Drop] = field(default_factory=list)

    @property
    def is_small(self) -> bool:
        """Whether it is written in a moment."""
        if len(self.documents) + len(self.logs) > SMALL_OPS:
            return False
        size = sum([len(value) for value in self.documents.values() if value is not None])
        for op in self.logs:
            if isinstance(op, Drop):
                return False
            size += sum([len(value) for value in op.values])
        return size <= SMALL_BYTES


def plan_of(ops: Sequence[Op]) -> Plan:
    """The plan of a commit; :class:`InvalidInput` when it holds what cannot be stored."""
    plan = Plan()
    for op in ops:
        if isinstance(op, Put):
            check_value(op.value)
            plan.documents[_expecting(plan, op, op.expect)] = op.value
        elif isinstance(op, Delete):
            plan.documents[_expecting(plan, op, op.expect)] = None
        elif isinstance(op, Append | Drop):
            _check_log(op)
            plan.logs.append(op)
        elif isinstance(op, Expect):
            _expecting(plan, op, op.version)
        else:
            raise InvalidInput(f"{type(op).__name__} is no change that a store can make")
    return plan


def _expecting(plan: Plan, op: Put | Delete | Expect, version: int | None) -> Place:
    place = collection, key = op.collection, op.key
    if collection not in _KNOWN:
        check_name("collection", collection)
        if len(_KNOWN) < MOST_KNOWN:
            _KNOWN.add(collection)
    check_name("key", key)
    if version is not None:
        plan.expected.append((place, version))
    return place


def _check_log(op: Append | Drop) -> None:
    check_name("log", op.log)
    if isinstance(op, Append):
        for value in op.values:
            check_value(value)


@dataclass(slots=True)
class LogChange:
    """What a group does to a log: ``dropped`` first, then ``values`` behind ``start``; ``head`` is how it ends up."""

    start: int
    head: Head
    values: list[bytes] = field(default_factory=list)
    dropped: bool = False


class Group:
    """Several commits put together, each judged against what stands after those before it.

    ``versions`` and ``heads`` tell what stood before the group, for every place expected and every log touched.
    """

    __slots__ = ("_heads", "_versions", "documents", "logs")

    def __init__(self, versions: dict[Place, int | None], heads: dict[str, Head]) -> None:
        self._versions = versions
        self._heads = heads
        #: Every document changed: its value, or None where it was removed, and the version of the change.
        self.documents: dict[Place, tuple[bytes | None, int]] = {}
        self.logs: dict[str, LogChange] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.documents and not self.logs

    def add(self, plan: Plan, version: int) -> Committed | Conflict:
        """Take the commit in under ``version``, or tell why it cannot be; then it leaves no trace.

        All that it expects is compared with what stood before it; then its changes are made in their order.
        """
        for place, wanted in plan.expected:
            found = self._versions.get(place) or 0
            if found != wanted:
                return _conflict(place, wanted, found)
        heads = self._heads_after(plan)
        if isinstance(heads, Conflict):
            return heads
        for place, value in plan.documents.items():
            self.documents[place] = (value, version)
            self._versions[place] = None if value is None else version
        for op in plan.logs:
            self._change(op)
        self._heads.update(heads)
        return Committed(version, heads)

    def _heads_after(self, plan: Plan) -> dict[str, Head] | LogEnded:
        heads: dict[str, Head] = {}
        for op in plan.logs:
            if isinstance(op, Drop):
                heads[op.log] = NO_HEAD
                continue
            head = heads.get(op.log) or self._heads.get(op.log, NO_HEAD)
            if head.ended:
                return LogEnded(f"the log {op.log!r} has ended at {head.seq}", log=op.log, seq=head.seq)
            heads[op.log] = Head(head.seq + len(op.values), op.end)
        return heads

    def _change(self, op: Append | Drop) -> None:
        if isinstance(op, Drop):
            self.logs[op.log] = LogChange(0, NO_HEAD, dropped=True)
        elif op.values or op.end:
            change = self.logs.get(op.log)
            if change is None:
                head = self._heads.get(op.log, NO_HEAD)
                change = self.logs[op.log] = LogChange(head.seq, head)
            change.values += op.values
            change.head = Head(change.start + len(change.values), op.end)


def _conflict(place: Place, wanted: int, found: int) -> StateConflict:
    collection, key = place
    state = f"is at version {found}" if found else "does not exist"
    hope = f"version {wanted}" if wanted else "not to exist"
    return StateConflict(
        f"{key!r} in {collection!r} {state}, expected {hope}",
        collection=collection,
        key=key,
        expected=wanted,
        found=found,
    )
