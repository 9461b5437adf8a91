"""What became of the claims of items, kept in the commits that change them; a claim that goes well adds nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from arriero.core import names
from arriero.core.kernel import Change, Kernel
from arriero.core.records import ItemRecord, LogRecord
from arriero.types.errors import ErrorInfo

#: Characters of a reason, and of an error's message, that are kept here.
LONGEST = 1000


def note(kernel: Kernel, change: Change, item: ItemRecord, kind: str, **fields: Any) -> None:
    """Put an entry into the change; the item itself is stored by the caller, behind this."""
    reason = fields.pop("reason", "")[:LONGEST]
    change.append(names.item_log(item.id), LogRecord(kind=kind, at=kernel.clock(), reason=reason, **fields))
    item.logged = True


def note_end(kernel: Kernel, change: Change, item: ItemRecord, kind: str, **fields: Any) -> None:
    """The item's claim has ended so."""
    claim = {"epoch": item.epoch, "worker": item.worker_id, "since": item.claimed_at}
    note(kernel, change, item, kind, **claim, **fields)


def shortened(error: ErrorInfo) -> ErrorInfo:
    """The error without what is long."""
    step = error.details.get("step")
    details = {"step": step[:LONGEST]} if isinstance(step, str) else {}
    return msgspec.structs.replace(error, message=error.message[:LONGEST], details=details)
