"""JSON values: what may leave a handler, and how Python's own types become it.

Taken as they are: None, booleans, finite floats, integers, text, lists, and dicts with text keys. Converted: tuples to
arrays; sets to arrays in the order of their JSON; enum members to their values; datetimes, dates and times to ISO 8601
text; UUIDs and finite decimals to text; dataclasses to objects; pydantic models to what they dump in JSON mode; keys
that are integers to text. Anything else is refused, for it would come back as something else: NaN and the infinities,
bytes, lone surrogates, other keys, what refers to itself, and objects of any other type.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
from pydantic import BaseModel

from arriero.types.errors import NotJSON

#: How deep arrays and objects may lie in one another.
MAX_DEPTH = 200

_encode = msgspec.json.Encoder().encode
_SCALARS = frozenset({bool, int, type(None)})
_TEXT_ONLY = frozenset({str})
#: What msgspec raises for what it cannot write: other types, lone surrogates, huge integers, cycles.
_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


def encode_json(value: Any, what: str) -> bytes:
    """The JSON text of a value; :class:`NotJSON` says where in ``what`` something does not fit."""
    text = _encode_plain(value)
    return _encode(_converted(value, what)) if text is None else text


def to_json_value(value: Any, what: str) -> Any:
    """The value in plain JSON types (the same object if it is plain already); :class:`NotJSON` if it does not fit."""
    return value if _encode_plain(value) is not None else _converted(value, what)


def _encode_plain(value: Any) -> bytes | None:
    # Written first, because that fails early on what refers to itself, which the look below would follow for long.
    try:
        text = _encode(value)
    except _UNWRITABLE:
        return None
    return text if _is_plain(value) else None


def _is_plain(value: Any) -> bool:
    """Whether a value that msgspec could write is exactly what it wrote: it writes NaN as null and bytes as text."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            return False
        inner: list[Any] = []
        for each in level:
            kind = type(each)
            if kind is str or kind in _SCALARS:
                continue
            if kind is dict:
                if not _TEXT_ONLY.issuperset(map(type, each)):
                    return False
                inner.extend(each.values())
            elif kind is list:
                inner.extend(each)
            elif kind is not float or not math.isfinite(each):
                return False
        level, depth = inner, depth + 1
    return True


def is_deep(value: Any, text: str | bytes) -> bool:
    """Whether arrays and objects lie deeper in one another than may be, in what was read from that text."""
    opened = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if opened <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


class _Unfit(Exception):
    """What does not fit, and the way to it, innermost part first. It never leaves this module."""

    def __init__(self, value: Any, reason: str) -> None:
        super().__init__(reason)
        self.type = _type_name(value)
        self.reason = reason
        self.path: list[str] = []


def _converted(value: Any, what: str) -> Any:
    try:
        return _convert(value, 0)
    except _Unfit as unfit:
        path = _shortened(unfit.path[::-1])
        message = f"{what} is not JSON: {path or 'it'} is of type {unfit.type}, {unfit.reason}"
        raise NotJSON(message, path=path, type=unfit.type) from None


def _shortened(path: list[str], most: int = 12) -> str:
    return "".join(path if len(path) <= most else [*path[: most // 2], "...", *path[-most // 4 :]])


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _convert(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _Unfit(value, f"which lies more than {MAX_DEPTH} levels deep or refers to itself")
    if isinstance(value, Enum):
        return _convert(value.value, depth)
    for kind, leaf in _LEAVES.items():
        if isinstance(value, kind):
            return leaf(value)
    for kind, branch in _BRANCHES.items():
        if isinstance(value, kind):
            return branch(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _at(f".{f.name}", _convert, getattr(value, f.name), depth) for f in dataclasses.fields(value)}
    raise _Unfit(value, "which JSON has no form for")


def _at(part: str, work: Callable[[Any, int], Any], value: Any, depth: int) -> Any:
    """Work on what lies one level deeper, under ``part``."""
    try:
        return work(value, depth + 1)
    except _Unfit as unfit:
        unfit.path.append(part)
        raise


def _text(value: str) -> str:
    text = value if type(value) is str else str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unfit(value, "which has a lone surrogate in it") from None
    return text


def _integer(value: int) -> int:
    number = int(value)
    try:
        _encode(number)
    except _UNWRITABLE:
        raise _Unfit(value, "which has too many digits") from None
    return number


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise _Unfit(value, "which is not a finite number")
    return float(value)


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise _Unfit(value, "which is not a finite number")
    return str(value)


def _object(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key, value)
        if name in result:
            raise _Unfit(value, f"which has two keys that both become {name!r}")
        result[name] = _at(_step(name), _convert, item, depth)
    return result


def _key(key: Any, holder: dict[Any, Any]) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return _text(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    raise _Unfit(holder, f"with a key of type {_type_name(key)}: keys must be text or integers")


def _step(name: str) -> str:
    return f".{name}" if name.isidentifier() else f"[{name[:80]!r}]"


def _array(value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
    return [_at(f"[{index}]", _convert, item, depth) for index, item in enumerate(value)]


def _set(value: set[Any] | frozenset[Any], depth: int) -> list[Any]:
    return sorted((_at("{}", _convert, item, depth) for item in value), key=_encode)


def _model(value: BaseModel, depth: int) -> Any:
    try:
        dumped = value.model_dump(mode="json")
    except (ValueError, TypeError, RecursionError) as error:  # pydantic's own serialization errors are ValueErrors
        for name, item in (vars(value) | (value.__pydantic_extra__ or {}) | (value.__pydantic_private__ or {})).items():
            _at(f".{name}", _convert, item, depth)
        raise _Unfit(value, f"which cannot be dumped: {error}") from None
    text = _encode_plain(dumped)
    if text is None:
        return _convert(dumped, depth)
    if b"null" in text:
        _refuse_infinite(value.model_dump(), depth)
    return dumped


def _refuse_infinite(value: Any, depth: int) -> None:
    """Pydantic dumps NaN and the infinities as None where a field's type is not declared."""
    if isinstance(value, float):
        _float(value)
    elif depth <= MAX_DEPTH and isinstance(value, dict):
        for key, item in value.items():
            _at(_step(str(key)), _refuse_infinite, item, depth)
    elif depth <= MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            _at(f"[{index}]", _refuse_infinite, item, depth)


def _same(value: Any) -> Any:
    return value


#: Asked in this order: a boolean is an integer too.
_LEAVES: dict[Any, Callable[[Any], Any]] = {
    bool: _same,
    type(None): _same,
    str: _text,
    int: _integer,
    float: _float,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
    Decimal: _decimal,
}
_BRANCHES: dict[Any, Callable[[Any, int], Any]] = {
    dict: _object,
    list: _array,
    tuple: _array,
    BaseModel: _model,
    set: _set,
    frozenset: _set,
}
