"""A store whose commits can be held back or made to fail, so that a test decides what comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from arriero.state_stores.base import Append, Committed, Delete, Drop, Expect, Op, Put
from arriero.state_stores.memory import MemoryStore
from arriero.types.errors import StoreUnavailable

Matches = Callable[[Sequence[Op]], bool]


class Gate:
    """One commit that waits: ``arrived`` is set when it came, and it goes on when ``open`` is."""

    def __init__(self, matches: Matches) -> None:
        self.matches = matches
        self.arrived = asyncio.Event()
        self.open = asyncio.Event()


class GatedStore(MemoryStore):
    """A store in memory; every commit gives others a turn, as a store on a disk does, unless it is ``hasty``."""

    def __init__(self) -> None:
        super().__init__()
        self.hasty = False
        self._gates: list[Gate] = []
        self._failing: list[Matches] = []
        self._doubtful: list[Matches] = []

    def hold(self, matches: Matches) -> Gate:
        """Hold back the next commit that matches."""
        gate = Gate(matches)
        self._gates.append(gate)
        return gate

    def fail(self, matches: Matches) -> None:
        """Let the next commit that matches fail as if the disk were full."""
        self._failing.append(matches)

    def doubt(self, matches: Matches) -> None:
        """Let the next commit that matches take effect, and fail nevertheless."""
        self._doubtful.append(matches)

    async def commit(self, ops: Sequence[Op], *, durable: bool = True) -> Committed:
        for gate in self._gates:
            if gate.matches(ops):
                self._gates.remove(gate)
                gate.arrived.set()
                await gate.open.wait()
                break
        for matches in self._failing:
            if matches(ops):
                self._failing.remove(matches)
                raise StoreUnavailable("the disk is full")
        if not self.hasty:
            await asyncio.sleep(0)
        committed = await super().commit(ops, durable=durable)
        for matches in self._doubtful:
            if matches(ops):
                self._doubtful.remove(matches)
                raise StoreUnavailable("the disk took it, and did not say so")
        return committed


def touches(name: str) -> Matches:
    """Whether a commit touches a collection or log whose name begins so."""
    return lambda ops: any(_place(op).startswith(name) for op in ops)


def removes(name: str) -> Matches:
    """Whether a commit removes something from a collection whose name begins so."""
    return lambda ops: any(isinstance(op, Delete) and op.collection.startswith(name) for op in ops)


def puts(name: str, text: str = "") -> Matches:
    """Whether a commit puts a document with this text in it into such a collection."""
    return lambda ops: any(
        isinstance(op, Put) and op.collection.startswith(name) and text.encode() in op.value for op in ops
    )


def _place(op: Op) -> str:
    match op:
        case Append() | Drop():
            return op.log
        case Put() | Delete() | Expect():
            return op.collection
