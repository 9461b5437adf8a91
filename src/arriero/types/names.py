"""What a name from outside may be: of a service, a session, a task or a worker."""

from __future__ import annotations

import re

from pydantic import JsonValue

LONGEST_NAME = 128
#: No control or format characters, no separators but the space, and no slashes.
_BARRED = (
    r"\x00-\x1f\x7f-\xa0\xad/\\\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f"
    r"\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff0-\ufffb\ufffe\uffff"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e01ef"
)
#: The same for whoever reads the descriptions of routes: no name begins or ends with a space, or is a step in a path.
PATTERN = rf"^(?!\.{{1,2}}$)[^ {_BARRED}](?:[^{_BARRED}]*[^ {_BARRED}])?$"
#: How a name is described.
NAME: dict[str, JsonValue] = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME, "pattern": PATTERN}

#: In Python, text may hold halves of characters besides.
_name = re.compile(rf"(?!.*[\ud800-\udfff]){PATTERN}")


def is_name(text: str) -> bool:
    """Whether the text can be a name."""
    return 0 < len(text) <= LONGEST_NAME and _name.fullmatch(text) is not None
