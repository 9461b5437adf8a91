"""How much is measured, and how each measurement is tried."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import trials
from figures import Figures

Found = TypeVar("Found")


@dataclass(frozen=True)
class Plan:
    """How much is measured. Times are in seconds."""

    rounds: int
    warm: float
    sequential: float
    at_once: float
    many: int
    idle: float
    fresh: bool
    #: Until when a disturbed trial is made again.
    patience: float
    #: How often each probe does what it measures.
    probes: Mapping[str, int]


FULL = Plan(
    rounds=3,
    warm=1,
    sequential=2,
    at_once=3,
    many=10_000,
    idle=60,
    fresh=True,
    patience=180,
    probes={"nested": 300, "cancel": 5, "journal": 30, "waiting": 1_000, "resume": 7},
)
QUICK = Plan(
    rounds=1,
    warm=0.5,
    sequential=1,
    at_once=1.5,
    many=3_000,
    idle=10,
    fresh=False,
    patience=0,
    probes={"nested": 60, "cancel": 1, "journal": 6, "waiting": 1_000, "resume": 3},
)


def attempt(figures: Figures, what: str, measure: Callable[[], Found]) -> Found | None:
    """What was found, or None with the reason among the troubles."""
    print(what, flush=True)
    try:
        return measure()
    except trials.TrialFailed as error:
        figures.troubles.append(f"{what}: {error}")
        print("    failed", flush=True)
        return None


def median_of(times: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(times))
