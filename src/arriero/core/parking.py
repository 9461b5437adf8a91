"""Items that were left by their workers until an event comes, or a time."""

from __future__ import annotations

import logging

import msgspec

from arriero.core import names
from arriero.core.itemlog import note
from arriero.core.kernel import Change, Kernel
from arriero.core.records import NULL, ItemRecord
from arriero.state_stores.base import Entry
from arriero.types.tasks import TaskStatus

logger = logging.getLogger("arriero.core")

PAGE = 1000


def unpark(kernel: Kernel, change: Change, item: ItemRecord, why: str) -> None:
    """An item that was left may be claimed again; storing it is the caller's."""
    drop_wake(kernel, change, item)
    note(kernel, change, item, "woken", reason=why)
    item.awaits = []
    item.status = TaskStatus.QUEUED
    change.make_ready(item)


def drop_wake(kernel: Kernel, change: Change, item: ItemRecord) -> None:
    """No time and no worker of another shape is waited for any more."""
    if item.misfit:
        change.delete(names.misfits(item.service), names.misfit(item.shape, item.id))
        item.misfit = False
    if item.wake_at is not None:
        change.delete(names.TIMERS, names.timer_key(item.wake_at, "wake", item.id))
        change.after.append(lambda: kernel.agenda.drop("wake", item.id))
        item.wake_at = None


async def entries_of(kernel: Kernel, item: ItemRecord) -> list[msgspec.Raw]:
    """The entries of an item's journal that say all, in order."""
    if not item.journaled:
        return []
    found: list[msgspec.Raw] = []
    after = item.base
    while page := await kernel.store.read_log(names.journal_log(item.id), after, PAGE):
        found += [_readable(item, entry) for entry in page]
        after = page[-1].seq
    return found


def _readable(item: ItemRecord, entry: Entry) -> msgspec.Raw:
    """The entry as it is sent. A damaged one is sent as nothing: its run fails over it, and no frame breaks."""
    try:
        msgspec.json.decode(entry.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        logger.error("entry %d in the journal of item %s cannot be read: %s", entry.seq, item.id, error)  # noqa: TRY400  # what it says is all there is
        return NULL
    return msgspec.Raw(entry.value)
