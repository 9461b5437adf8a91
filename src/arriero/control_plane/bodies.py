"""Reading requests: bounded, typed, nothing believed."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request

from arriero.types.errors import InvalidInput, PayloadTooLarge

T = TypeVar("T")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, or :class:`PayloadTooLarge` as soon as it is known to exceed the limit."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(int(declared), limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(size, limit)
        chunks.append(chunk)
    return b"".join(chunks)


def parse(body: bytes, decoder: msgspec.json.Decoder[T], what: str) -> T:
    """The body as the decoder's type; the error names the field that is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{what} cannot be read: {error}") from error
    except (RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} cannot be read: {type(error).__name__}") from error


def seconds_of(request: Request, name: str, most: float) -> float | None:
    """A query parameter in seconds, at most ``most``; None when it is not given."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InvalidInput(f"{name} must be a number of seconds of at least 0, not {text[:40]!r}")
    return min(value, most)


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the request has {size} bytes; the limit is {limit} bytes", size=size, limit=limit)
