"""Identifiers: RFC 9562 version 7 UUIDs, so that what was made later also sorts later."""

from __future__ import annotations

import os
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_KEYS = uuid.UUID("6f1d7a52-6f0c-4d0b-9a3e-2f4f5f6b7c11")


class Source(Protocol):
    """What ids are made of."""

    def milliseconds(self) -> int:
        """The time, since the epoch."""

    def take(self, count: int) -> bytes:
        """So many random bytes."""


class _Entropy:
    """The system's random bytes, fetched by the page: a system call for every id would be most of its cost."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._page = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        if self._used + count > len(self._page):
            self._page, self._used = os.urandom(4096), 0
        self._used += count
        return self._page[self._used - count : self._used]

    def milliseconds(self) -> int:
        return time.time_ns() // 1_000_000


_entropy = _Entropy()
os.register_at_fork(after_in_child=_entropy.forget)
_source: Source = _entropy


@contextmanager
def drawn_from(source: Source) -> Iterator[None]:
    """Make the ids of the whole process from this source meanwhile: for simulations, which must not differ."""
    global _source  # noqa: PLW0603  # one for all who make ids
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before


def generate_id() -> str:
    """A new id: a UUID in its usual text form, unique, and sortable by the millisecond it was made in."""
    digits = f"{_source.milliseconds():012x}{_source.take(10).hex()}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def generate_token() -> str:
    """A text of 128 random bits that nobody can guess."""
    return urlsafe_b64encode(_source.take(16)).rstrip(b"=").decode()


def id_from(scope: str, key: str) -> str:
    """The one id that stands for an idempotency key within its scope: the same words always give the same id."""
    return str(uuid.uuid5(_KEYS, f"{len(scope)}:{scope}:{key}"))
