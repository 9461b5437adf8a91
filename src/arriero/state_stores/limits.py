"""What a store takes: names that can be stored and sorted, and values of bearable size."""

from __future__ import annotations

from arriero.types.errors import InvalidInput, PayloadTooLarge

#: Longest key, collection or log, in bytes of UTF-8.
LONGEST_NAME = 512
#: Largest single value, in bytes.
LARGEST_VALUE = 64 * 1024 * 1024
#: Largest number that a store counts with.
LARGEST_NUMBER = 2**63 - 1


def check_name(what: str, name: str) -> None:
    """Raise :class:`InvalidInput` unless the text can name a collection, a document or a log."""
    if type(name) is str and name.isascii() and 0 < len(name) <= LONGEST_NAME and "\0" not in name:
        return
    if not isinstance(name, str):
        raise InvalidInput(f"a {what} is text, not {type(name).__name__}")
    if "\0" in name:
        raise InvalidInput(f"a {what} holds no NUL: {name[:40]!r}")
    if not 0 < _size(what, name) <= LONGEST_NAME:
        raise InvalidInput(
            f"a {what} has 1 to {LONGEST_NAME} bytes in UTF-8, this one {_size(what, name)}: {name[:40]!r}"
        )


def check_value(value: bytes) -> None:
    """Raise :class:`InvalidInput` unless the value can be stored."""
    if type(value) is not bytes:
        raise InvalidInput(f"a stored value is bytes, not {type(value).__name__}")
    if len(value) > LARGEST_VALUE:
        raise PayloadTooLarge(f"a stored value has at most {LARGEST_VALUE} bytes, this one has {len(value)}")


def bounded(number: int) -> int:
    """A position or a page's size as a number that a store can count with, none of them negative."""
    return max(0, min(number, LARGEST_NUMBER))


def _size(what: str, name: str) -> int:
    try:
        return len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a {what} is text that UTF-8 can hold: {name[:40]!r} is not") from error
