"""Reading requests: bounded, typed, nothing believed."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from fastapi import Header, Query
from starlette.requests import Request
from starlette.types import Receive

from arriero.types.errors import InvalidInput, PayloadTooLarge
from arriero.types.jsonvalue import MAX_DEPTH, is_deep

#: Bytes of a body that holds a few words.
SMALL = 64 * 1024
#: The most characters of an idempotency key.
MAX_KEY = 255
#: The cursor behind which a list goes on.
After = Annotated[str, Query(max_length=150, pattern=r"^[^\x00]*$")]
Key = Annotated[str, Header(min_length=1, max_length=MAX_KEY)]
#: The most digits of a length that is worth reading.
DIGITS = 18

T = TypeVar("T")


async def read_body(request: Request, limit: int, setting: str = "") -> bytes:
    """The whole body, or :class:`PayloadTooLarge` as soon as it is known to exceed the limit.

    ``setting`` is named in the error as what the limit follows from.
    """
    declared = request.headers.get("content-length", "0").encode("latin-1")
    return await read_chunks(request.receive, declared, limit, setting)


async def read_chunks(receive: Receive, declared: bytes, limit: int, setting: str = "") -> bytes:
    """The same from the server's own channel; ``declared`` is the length that the headers name."""
    if declared.isdigit() and (len(declared) > DIGITS or int(declared) > limit):
        raise _too_large(declared.decode()[:DIGITS], limit, setting)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("the request ended before its body did")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(str(size), limit, setting)
        if not message.get("more_body"):
            return b"".join(chunks)


def parse(body: bytes, decoder: msgspec.json.Decoder[T], what: str) -> T:
    """The body as the decoder's type; the error names the field that is wrong."""
    try:
        value = decoder.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{what} cannot be read: {error}") from error
    except (RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} cannot be read: {type(error).__name__}") from error
    if isinstance(value, dict) and is_deep(value, body):
        raise InvalidInput(f"{what} is nested more than {MAX_DEPTH} levels deep, which is the limit", limit=MAX_DEPTH)
    return value


def _too_large(size: str, limit: int, setting: str) -> PayloadTooLarge:
    by = f", which follows from {setting}" if setting else ""
    return PayloadTooLarge(f"the request has {size} bytes; the limit is {limit} bytes{by}", limit=limit)
