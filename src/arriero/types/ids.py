"""Identifiers: RFC 9562 version 7 UUIDs, so that what was made later also sorts later."""

from __future__ import annotations

import os
import time
import uuid


def generate_id() -> str:
    """A new id: a UUID in its usual text form, unique, and sortable by the millisecond it was made in."""
    stamp = time.time_ns() // 1_000_000
    value = (stamp & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


_KEYS = uuid.UUID("6f1d7a52-6f0c-4d0b-9a3e-2f4f5f6b7c11")


def id_from(scope: str, key: str) -> str:
    """The one id that stands for an idempotency key within its scope: the same words always give the same id."""
    return str(uuid.uuid5(_KEYS, f"{len(scope)}:{scope}:{key}"))
