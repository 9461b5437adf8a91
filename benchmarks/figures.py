"""What a run found, and the medians of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from systems.base import System

#: The share of the processors that other programs may use during a trial that counts.
DISTURBED = 0.2
#: Runs that ask and are answered before memory counts as that of an idle system, and how many seconds later.
WARM, GONE = 200, 2.0


@dataclass
class Row:
    """One system: what each round found, or why none was tried."""

    system: System
    rounds: list[dict[str, Any]] = field(default_factory=list)
    missing: str = ""

    def median(self, name: str) -> float:
        return float(statistics.median(found[name] for found in self.rounds))

    @property
    def others(self) -> list[float]:
        return [found["others"] for found in self.rounds]

    @property
    def cpu_us(self) -> dict[str, float]:
        return medians([found["cpu_us"] for found in self.rounds])


@dataclass
class Quality:
    """A figure with its target; ``met`` is None where there is none. ``others`` used so much of the processors."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None
    others: float | None = None


@dataclass
class Figures:
    """Everything that the page shows. ``troubles`` are the measurements that could not be made."""

    rows: dict[str, Row]
    rounds: int
    qualities: list[Quality] = field(default_factory=list)
    memory: list[tuple[str, str, float, float]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def medians(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in found) for name in found[0]}
