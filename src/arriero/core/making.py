"""Making a grant of an item: what its worker is to know."""

from __future__ import annotations

from arriero.core import names, records
from arriero.core.kernel import Kernel
from arriero.core.records import ItemRecord, TaskRecord
from arriero.types.ids import generate_token
from arriero.types.link import Grant


async def context_for(kernel: Kernel, item: ItemRecord) -> str | None:
    """What the session keeps for the item's service; a child begins with nothing."""
    if item.parent is not None:
        return None
    kept = await kernel.load(records.TEXT, names.CONTEXTS, names.lane(item.session_id, item.service))
    return kept.record if kept else None


def grant_of(task: TaskRecord, item: ItemRecord, text: str, context: str | None, now: float) -> Grant:
    """A grant of the item under a new token, with ``text`` as its input."""
    return Grant(
        item_id=item.id,
        task_id=item.task_id,
        session_id=item.session_id,
        service=item.service,
        token=generate_token(),
        epoch=item.epoch + 1,
        attempt=item.attempt + 1,
        input=text,
        context=context,
        deadline=None if item.deadline_at is None else max(0.0, item.deadline_at - now),
        headers=task.headers,
        path=item.path,
    )
