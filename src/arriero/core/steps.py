"""What a journal says of the steps of a workflow, read without the engine; and a journal cut behind one of them.

Only what is needed of the engine's ticks is known here, and what is not as expected is passed over: a history shows
what it can. Whether a journal can be gone on from is its handler's to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from arriero.core.itemlog import LONGEST
from arriero.types.errors import ErrorInfo, NotFound, StoreDamaged
from arriero.types.history import HistoryEntry

#: How many finished steps an error names.
SHOWN = 20


class Steps:
    """Goes through the entries of a journal in their order; ``last`` is the time of the newest tick."""

    def __init__(self) -> None:
        self.finished = 0
        self.last = 0.0
        self._times: Counter[str] = Counter()
        self._given: dict[bytes, float] = {}
        self._delayed: set[bytes] = set()
        self._waiting: set[bytes] = set()

    def read(self, raw: bytes) -> Iterator[HistoryEntry]:
        """What the steps did in one entry."""
        for tick in decoded(raw).get("ticks", ()):
            if isinstance(tick, dict):
                self.last = max(self.last, _time(tick.get("stamped_at")))
                yield from self._tick(tick)

    def label(self, step: str) -> str:
        """What a step will be called that finishes next."""
        return labelled(step, self._times[step] + 1)

    def _tick(self, tick: dict[str, Any]) -> Iterator[HistoryEntry]:
        match tick.get("type"):
            case "step_result":
                yield from self._result(tick)
            case "add_event":
                self._given[_key(tick.get("event"))] = self.last
                self._begin(self._waiting)
            case "wakeup" | "waiter_timeout":
                self._begin(self._delayed | self._waiting)
            case "session_start":  # what was under way begins again
                self._begin(self._given.keys() - self._delayed - self._waiting)

    def _begin(self, keys: set[bytes]) -> None:
        self._given |= dict.fromkeys(keys, self.last)

    def _result(self, tick: dict[str, Any]) -> Iterator[HistoryEntry]:
        key, name = _key(tick.get("event")), str(tick.get("step_id", ""))
        told = HistoryEntry(at=self.last, kind="step", step=name, since=self._given.get(key))
        self._delayed.discard(key)
        self._waiting.discard(key)
        every = [part for part in tick.get("result", ()) if isinstance(part, dict)]
        parts = {part.get("type"): part for part in every}
        if "failed" in parts:
            yield self._failed(told, key, parts["failed"])
        elif "add_waiter" in parts:
            self._waiting.add(key)
            told.kind, told.result = "step_waits", _short(parts["add_waiter"].get("event_type"))
            yield told
        else:
            self.finished += 1
            self._times[name] += 1
            told.step = labelled(name, self._times[name])
            told.finished, told.result = self.finished, _result_types(every)
            self._given.pop(key, None)
            yield told

    def _failed(self, told: HistoryEntry, key: bytes, part: dict[str, Any]) -> HistoryEntry:
        raised, decision = part.get("exception") or {}, part.get("retry_decision") or {}
        told.kind, told.delay = "step_failed", decision.get("delay")
        message = str(raised.get("exception_message", ""))[:LONGEST]
        told.error = ErrorInfo(code="step_failed", message=message, type=_short(raised.get("exception_type")))
        if told.delay is not None:
            self._delayed.add(key)
        return told


class Cut(NamedTuple):
    """Entries up to the finished step of that number; those before the ``base``-th need not be read."""

    entries: list[msgspec.Raw]
    number: int
    base: int


def cut(entries: Sequence[bytes], after: int | str) -> Cut:
    """The entries of a journal up to a finished step, which is given by its number or as ``name#k``.

    Which events from outside it took is left out, for they were another item's. Errors: ``NotFound`` when the
    journal has no such step.
    """
    steps = Steps()
    kept: list[msgspec.Raw] = []
    known: list[str] = []
    base = 0
    for number, raw in enumerate(entries):
        entry = decoded(raw)
        entry.pop("taken", None)
        base = number if "broker" in entry else base
        for place, tick in enumerate(entry.get("ticks", ())):
            for told in steps.read(msgspec.json.encode({"ticks": [tick]})):
                if not told.finished:
                    continue
                known.append(told.step)
                if after in (told.finished, told.step, f"{told.step}#1"):
                    entry["ticks"] = entry["ticks"][: place + 1]
                    return Cut([*kept, msgspec.Raw(msgspec.json.encode(entry))], told.finished, base)
        kept.append(msgspec.Raw(msgspec.json.encode(entry)))
    listed = ", ".join(f"{number} {step}" for number, step in enumerate(known[-SHOWN:], max(1, len(known) - SHOWN + 1)))
    raise NotFound(
        f"no step {repr(after)[:80]} has finished in the journal; those that have: {listed or 'none'}",
        finished=known[-SHOWN:],
    )


def decoded(raw: bytes) -> dict[str, Any]:
    """An entry. Errors: ``StoreDamaged``."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"an entry of a journal cannot be read: {error}") from error


def labelled(step: str, time: int) -> str:
    """A step by its name and how often it has finished."""
    return step if time == 1 else f"{step}#{time}"


def _result_types(parts: list[dict[str, Any]]) -> str:
    """The classes of what a step returned, each with how many there are if there are several."""
    events = [part["result"] for part in parts if part.get("type") == "result" and isinstance(part.get("result"), dict)]
    names = Counter(_short(event.get("qualified_name")) for event in events)
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in names.items())


def _short(name: Any) -> str:
    return str(name or "").rpartition(".")[2]


def _time(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _key(event: Any) -> bytes:
    return msgspec.json.encode(event, order="sorted")
