"""Numbers as JSON has them: no text and no truth is taken for one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator


def _number(value: Any) -> Any:
    if isinstance(value, bool | str | bytes):
        raise ValueError("it must be a number, not text or true or false")  # noqa: TRY004  # pydantic reads ValueErrors
    return value


NUMBER = BeforeValidator(_number)
#: A whole number, which may be written as 3.0.
Whole = Annotated[int, NUMBER]
