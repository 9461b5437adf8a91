"""Keys for effects outside: the same whenever the same piece of work is done again."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING

from arriero.types.errors import ConfigurationError
from arriero.types.handling import HandlerContext
from arriero.types.jsonvalue import encode_json

if TYPE_CHECKING:
    from arriero.runtime.surroundings import ItemRuns

# A reference that does not hold: contexts are copied into every timer and task that a handler leaves behind.
_item: ContextVar[weakref.ref[HandlerContext] | None] = ContextVar("arriero_item", default=None)


async def idempotency_key(name: str = "") -> str:
    """A key for an effect outside, to be given to the other side so that it has the effect once.

    It is the same each time that the same work is done: when the step or the function is tried again after a failure,
    and when it runs again on any worker because one was lost. Other work has other keys: another task, a replay or a
    fork of this one, another step, another event given to the same step. So does a child that is started anew because
    it failed.

    ``name`` says what the key is for. The n-th key of one name is another than the n-th of another name, and than the
    one before it; so where the order of effects may differ from one try to the next, give each a name of its own, such
    as the number of the order that is paid.

    Before it is given, what led to the step is in the run's journal, on the disk: a commit, unless it was there
    already. Where a run keeps no journal (with ``durability`` other than ``"journal"``, or in a workflow that is bound
    to a parameter of another), a step has the same key if it is given an equal event in the same turn.

    It may be asked for in a step, in a served function or generator, and in ``process_message`` of a service. Where a
    workflow runs without Arriero, and where a step or function runs one by itself, keys stay the same as long as the
    run lasts, and no other run has them. The key is text of 32 characters.

    Errors: ``ConfigurationError`` where nothing of that is at work; ``Fenced`` when the work is another worker's by
    now; ``NotJSON`` when what led to the step cannot be kept.
    """
    key, runs = _next(name)
    if runs is not None:
        if asyncio.get_running_loop() is runs.loop:
            await runs.keep(durable=True)
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(runs.keep(durable=True), runs.loop))
    return key


def idempotency_key_sync(name: str = "") -> str:
    """:func:`idempotency_key` for steps and functions that are not asynchronous; it blocks their thread.

    In a thread that runs an event loop it raises ``ConfigurationError``.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise ConfigurationError("idempotency_key_sync would block the event loop: await idempotency_key instead")
    key, runs = _next(name)
    if runs is not None:
        asyncio.run_coroutine_threadsafe(runs.keep(durable=True), runs.loop).result()
    return key


def works_on(context: HandlerContext) -> None:
    """From here on the task at hand works on that item, as does whatever it starts."""
    _item.set(weakref.ref(context))


def key_of(*identity: str | int) -> str:
    """The key of a piece of work, which has this identity whenever it is done."""
    return hashlib.blake2b(encode_json(identity, "the identity of a key"), digest_size=16).hexdigest()


def count(counts: dict[str, int], name: str) -> int:
    """How often this name was counted, with this time."""
    counts[name] = ordinal = counts.get(name, 0) + 1
    return ordinal


def _next(name: str) -> tuple[str, ItemRuns | None]:
    """The key, and of which runs the journal is to be written before it is used."""
    found = _item.get()
    context = found() if found is not None else None
    if found is not None and context is None:
        raise ConfigurationError("a key can be had while the work goes on, not after it")
    in_step = _in_step(name) if "workflows" in sys.modules else None
    if in_step is not None:
        return in_step
    if context is None:
        raise ConfigurationError("there is no step, function or service at work here that a key could belong to")
    return context.idempotency_key(name), None


def _in_step(name: str) -> tuple[str, ItemRuns | None] | None:
    """The same for the step at work, if there is one."""
    try:
        from arriero.runtime.steps import counts_of_try, input_of_try, step_now
        from arriero.runtime.surroundings import here
    except ImportError as error:
        raise ConfigurationError(f"the workflow engine is not the one expected, and has no keys: {error}") from error
    around, now = here(), step_now()
    if around is None:
        return None if now is None else (key_of(now.run_id, now.scope, name, count(counts_of_try(), name)), None)
    ordinal = count(around.counts if now is None else counts_of_try(), name)
    identity = (around.item.context.grant.item_id, around.scope + around.name_of(now), name, ordinal)
    if around.is_journaled:
        return key_of(*identity), around.item
    # Without a journal the works of a step are numbered anew, and may change places: their events tell them apart.
    return key_of(*identity, input_of_try() if now is not None else ""), None
