"""Trouble that passes: what it is, how long a call bears it, and what the log says of it."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Self

from arriero.types.errors import ArrieroError, ControlPlaneUnavailable

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
#: How much longer each pause is: short enough that a part which comes late is met soon.
GROWTH = 1.5
#: Seconds of trouble after which the log says what is waited for.
TELL_AFTER = 1.0

_log = logging.getLogger("arriero.client")


def shown(url: str) -> str:
    """An address without the name and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//***@", url)


class Kind(StrEnum):
    """What went wrong with one attempt."""

    REFUSED = "refused"
    DROPPED = "dropped"
    SILENT = "silent"
    BUSY = "busy"


class Trouble(Exception):
    """One attempt failed in a way that may pass. ``reason`` goes on from "the control plane"; ``error`` is its own."""

    def __init__(self, kind: Kind, reason: str, error: ArrieroError | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.error = error

    @classmethod
    def in_answer(cls, error: ArrieroError) -> Self | None:
        """The trouble that an answer tells of, or None when its error is final."""
        if not error.retryable or error.retry_after is None:
            return None
        return cls(Kind.BUSY, f"asks to be tried again later ({error.message})", error)


class Patience:
    """How long one call goes on trying: until ``limit`` seconds after ``since``, or for ever.

    Every request of this client may be repeated, because ids and keys make the repetition harmless.
    """

    def __init__(
        self, url: str, limit: float | None, since: float, chance: Callable[[], float] = random.random
    ) -> None:
        self._url = url
        self._limit = limit
        self._since = since
        self._chance = chance
        self._troubles = 0

    def pause(self, trouble: Trouble, now: float) -> float:
        """Seconds until the next attempt; raises what the caller gets when there is to be none."""
        wanted = self._wanted(trouble)
        self._troubles += 1
        if self._limit is None:
            return wanted
        left = self._since + self._limit - now
        if left <= 0 or (trouble.error is not None and wanted > left):
            raise self.end(trouble) from trouble
        return min(wanted, left)

    def end(self, trouble: Trouble) -> ArrieroError:
        """What the caller gets when patience is at its end."""
        if trouble.error is not None:
            return trouble.error
        limit = f" Tried for {self._limit:g} s (the client's timeout)." if self._limit is not None else ""
        return ControlPlaneUnavailable(
            f"The control plane at {self._url} {trouble.reason}.{limit} "
            "Check its address, or start it with `python -m arriero core`.",
            url=self._url,
            trouble=str(trouble.kind),
        )

    def _wanted(self, trouble: Trouble) -> float:
        if self._troubles == 0 and trouble.kind is Kind.DROPPED:
            return 0.0  # most often a connection that idled for too long; a new one will do
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * GROWTH ** min(self._troubles, 10)) * (0.5 + self._chance() / 2)
        asked = trouble.error.retry_after if trouble.error is not None else None
        return max(pause, asked * (1.0 + self._chance() / 10)) if asked is not None else pause


class Outage:
    """Trouble with one control plane, over all calls: told once, after a second, and once more when it is over."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._told = False
        self.since: float | None = None

    def met(self, trouble: Trouble, began: float, now: float, limit: float | None) -> None:
        """An attempt that began then has failed now; its call goes on for ``limit`` seconds in all."""
        if self.since is None:
            # What was dropped may have been a long wait in good order; what was never answered was not.
            self.since = now if trouble.kind in (Kind.DROPPED, Kind.BUSY) else began
        _log.debug("The control plane at %s %s.", self._url, trouble.reason)
        if self._told or now - self.since < TELL_AFTER:
            return
        self._told = True
        until = "until it answers" if limit is None else f"for at most {limit:g} s (the client's timeout)"
        _log.warning("Waiting for the control plane at %s, which %s: trying %s.", self._url, trouble.reason, until)

    def over(self) -> None:
        """An attempt has succeeded."""
        if self._told:
            _log.info("The control plane at %s answers.", self._url)
        self._told = False
        self.since = None
