"""Large values, kept once and apart from the records that name them, which are written again and again."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from arriero.core import names, records
from arriero.core.records import Codec, ItemRecord, TaskRecord
from arriero.state_stores.base import Delete, Op, Put, StateStore
from arriero.types.errors import StoreDamaged

T = TypeVar("T")

#: What may be apart: the input and the value of a task, and the input that an item was ordered with.
INPUT, VALUE, ORDER = "input", "value", "order"

RAW = Codec(msgspec.Raw)


class Values:
    """Takes large values out of records and puts them back in. A record names what it has ``apart``."""

    def __init__(self, store: StateStore, least: int) -> None:
        self._store = store
        self._least = least

    def task(self, ops: list[Op], task: TaskRecord) -> TaskRecord:
        """The task as it is stored; what is large and not yet apart goes into the ops. The task itself stays whole."""
        if not task.apart and len(task.input) <= self._least and len(memoryview(task.value)) <= self._least:
            return task
        apart = list(task.apart)
        for name, size in ((INPUT, len(task.input)), (VALUE, len(memoryview(task.value)))):
            if name not in apart and size > self._least:
                apart.append(name)
                ops.append(_put(task.id, name, task.input if name == INPUT else task.value))
        return msgspec.structs.replace(
            task,
            apart=apart,
            input="" if INPUT in apart else task.input,
            value=records.NULL if VALUE in apart else task.value,
        )

    def item(self, ops: list[Op], item: ItemRecord) -> None:
        """Keep the input of a new item apart, if it has a large one of its own."""
        if item.input is not None and len(item.input) > self._least:
            ops.append(_put(item.id, ORDER, item.input))
            item.input, item.apart = None, True

    async def fill(self, task: TaskRecord, *wanted: str) -> TaskRecord:
        """The task with these of its values in it."""
        for name in task.apart:
            if name == INPUT and INPUT in wanted:
                task.input = await self._get(records.TEXT, task.id, INPUT)
            elif name == VALUE and VALUE in wanted:
                task.value = await self._get(RAW, task.id, VALUE)
        return task

    async def input_of(self, item: ItemRecord, task: TaskRecord) -> str:
        """What the item is to work on."""
        if item.input is not None:
            return item.input
        if item.apart:
            return await self._get(records.TEXT, item.id, ORDER)
        return await self._get(records.TEXT, task.id, INPUT) if INPUT in task.apart else task.input

    def forget_task(self, ops: list[Op], task: TaskRecord) -> None:
        """Remove what is apart of the task."""
        ops += [Delete(names.VALUES, _key(task.id, name)) for name in task.apart]

    def forget_item(self, ops: list[Op], item: ItemRecord) -> None:
        """Remove what is apart of the item."""
        if item.apart:
            ops.append(Delete(names.VALUES, _key(item.id, ORDER)))

    async def _get(self, codec: Codec[T], owner: str, name: str) -> T:
        key = _key(owner, name)
        document = await self._store.get(names.VALUES, key)
        if document is None:
            raise StoreDamaged(f"the {name} of {owner!r} is not in the store")
        try:
            return codec.decode(document.value)
        except msgspec.DecodeError as error:
            raise StoreDamaged(f"the stored {name} of {owner!r} cannot be read: {error}") from error


def _put(owner: str, name: str, value: str | msgspec.Raw) -> Put:
    return Put(names.VALUES, _key(owner, name), records.encode(value))


def _key(owner: str, name: str) -> str:
    return f"{owner}/{name}"
