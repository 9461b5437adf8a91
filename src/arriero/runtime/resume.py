"""A run that goes on: its state with the engine, rebuilt from its journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from workflows import Workflow
from workflows.runtime.control_loop.reduce import _reduce_tick
from workflows.runtime.types.commands import CommandPublishEvent
from workflows.runtime.types.internal_state import BrokerState

from arriero.runtime.past import Past, is_question
from arriero.runtime.ticks import TickCodec
from arriero.types.clock import now
from arriero.types.errors import StoreDamaged, WorkflowChanged


def read_past(workflow: Workflow, codec: TickCodec, journal: Sequence[msgspec.Raw], shape: str, run_id: str) -> Past:
    """What the entries of an earlier run say.

    Errors: ``WorkflowChanged`` if it was a run of other steps; ``StoreDamaged``.
    """
    if shape != codec.shape:
        raise WorkflowChanged(
            f"this run was begun by another version of {type(workflow).__name__}, whose steps took or gave other "
            "events; resume it on workers with that version, restart it, or cancel it"
        )
    past = Past(BrokerState.from_workflow(workflow))
    entries = [_entry(raw) for raw in journal]
    for entry in entries:
        if "broker" in entry:
            past.broker = codec.read_broker(entry["broker"])
            past.waiters.until = {(step, waiter): until for step, waiter, until in entry.get("waiters", ())}
        if entry.get("asked"):
            past.unasked.clear()
        for value in entry.get("ticks", ()):
            tick = codec.read(value)
            past.waiters.note(tick)
            past.broker, commands = _reduce_tick(tick, past.broker, now(), run_id=run_id)
            published = [command.event for command in commands if isinstance(command, CommandPublishEvent)]
            past.unasked += [event for event in published if is_question(event)]
        _change_state(past, entry)
    past.has_asked = any("asked" in entry or "broker" in entry for entry in entries)  # what a summary holds is not told
    past.taken = _taken_in(entries)
    past.entries = len(entries)
    return past


def _entry(raw: msgspec.Raw) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreDamaged(f"an entry of the journal cannot be read: {error}") from error


def _change_state(past: Past, entry: dict[str, Any]) -> None:
    from workflows.context.state_store import apply_state_patch

    if "state" in entry:
        past.state = entry["state"]
    if "patch" in entry:
        if past.state is None:
            raise StoreDamaged("the journal changes a state that it does not hold")
        try:
            past.state = apply_state_patch(past.state, entry["patch"])
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise StoreDamaged(f"a change of state in the journal does not fit: {error}") from error


def _taken_in(entries: Iterable[dict[str, Any]]) -> set[int]:
    """The numbers of the arrivals that a journal holds."""
    return {seq for entry in entries for seq in entry.get("taken", ())}
