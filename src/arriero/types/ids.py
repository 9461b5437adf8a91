"""Identifiers: RFC 9562 version 7 UUIDs, so that what was made later also sorts later."""

from __future__ import annotations

import os
import time
import uuid
from base64 import urlsafe_b64encode

_KEYS = uuid.UUID("6f1d7a52-6f0c-4d0b-9a3e-2f4f5f6b7c11")


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


_entropy = _Entropy()
os.register_at_fork(after_in_child=_entropy.forget)


def generate_id() -> str:
    """A new id: a UUID in its usual text form, unique, and sortable by the millisecond it was made in."""
    digits = f"{time.time_ns() // 1_000_000:012x}{_entropy.take(10).hex()}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def generate_token() -> str:
    """A text of 128 random bits that nobody can guess."""
    return urlsafe_b64encode(_entropy.take(16)).rstrip(b"=").decode()


def id_from(scope: str, key: str) -> str:
    """The one id that stands for an idempotency key within its scope: the same words always give the same id."""
    return str(uuid.uuid5(_KEYS, f"{len(scope)}:{scope}:{key}"))
