"""What a store counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StoreStats:
    """Counters since the store was opened."""

    #: Commits that took effect.
    commits: int = 0
    #: Commits that were refused by an expectation or an ended log.
    conflicts: int = 0
    #: Transactions that commits were written in.
    groups: int = 0
    #: Transactions that waited for the disk.
    durable_groups: int = 0
    #: Reads that memory could not answer.
    reads: int = 0
