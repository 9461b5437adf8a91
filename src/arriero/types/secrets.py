"""Secret text: whether it may be a token, and the files that hold it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import tempfile
from io import BufferedReader
from pathlib import Path

from arriero.types.errors import ConfigurationError

SHORTEST = 16
LONGEST = 512
#: The largest file that is read for tokens, in bytes.
LARGEST_FILE = 1024 * 1024
#: What is left of a token without placeholder words must have so many characters, and so many different ones.
REST = 8
DIFFERENT = 5
PLACEHOLDERS = re.compile(r"change_?me|replace_?me|placeholder|password|secret|example|token|your|here|insert|todo")
#: What a bearer token is written with, by RFC 6750, less the comma that separates several.
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def checked(token: str, where: str) -> str:
    """The token, if it may be one. Errors: ``ConfigurationError``, which says why not, and never the token."""
    if not token:
        raise ConfigurationError(f"{where} is empty. {_GOOD}")
    if not TOKEN.fullmatch(token) or len(token) > LONGEST:
        raise ConfigurationError(
            f"{where} cannot be sent as a bearer token: use up to {LONGEST} letters, digits and . _ ~ + / - alone"
        )
    if len(token) < SHORTEST:
        raise ConfigurationError(f"{where} has {len(token)} characters, and must have at least {SHORTEST}. {_GOOD}")
    if _is_weak(token):
        raise ConfigurationError(f"{where} is a placeholder that anybody can guess. {_GOOD}")
    return token


_GOOD = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def _is_weak(token: str) -> bool:
    lower = token.lower()
    rest = re.sub(r"[^a-z0-9]", "", PLACEHOLDERS.sub("", lower.replace("-", "_")))
    return (
        lower.replace("-", "_").startswith(("change_me", "changeme")) or len(rest) < REST or len(set(rest)) < DIFFERENT
    )


def read_private(path: Path, what: str) -> str:
    """The text of a file that only its owner may read.

    Errors: ``ConfigurationError``; ``OSError`` when it cannot be opened.
    """
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigurationError(f"{what} {str(path)!r} is no regular file")
        if os.name != "posix":
            return _text(file, path, what)
        if facts.st_uid not in (os.geteuid(), 0):
            raise ConfigurationError(f"{what} {str(path)!r} belongs to another user (uid {facts.st_uid})")
        if facts.st_mode & OTHERS:
            mode = stat.S_IMODE(facts.st_mode)
            raise ConfigurationError(
                f"{what} {str(path)!r} can be read by others (mode {mode:04o}). Do: chmod 600 {str(path)!r}"
            )
        return _text(file, path, what)


def _text(file: BufferedReader, path: Path, what: str) -> str:
    content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ConfigurationError(f"{what} {str(path)!r} is larger than {LARGEST_FILE} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{what} {str(path)!r} is not text") from None


def kept_token(path: Path) -> str:
    """The token in the file; one that is not there is made, for its owner alone to read.

    Errors: ``ConfigurationError``, also when the file holds something else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
    except OSError as error:
        raise ConfigurationError(f"the token file {str(path)!r} cannot be written: {error.strerror}") from error
    return found_token(path)


def _make(path: Path) -> None:
    """Whoever sees the file sees it whole: it is written under another name, and linked unless another was faster."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".token-", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        with contextlib.suppress(FileExistsError):
            os.link(file.name, path)


def found_token(path: Path) -> str:
    """The token in a file that holds one and nothing else. Errors: ``ConfigurationError``."""
    try:
        text = read_private(path, "the token file")
    except OSError as error:
        raise ConfigurationError(f"the token file {str(path)!r} cannot be read: {error.strerror}") from error
    return checked(text.strip(), f"what the token file {str(path)!r} holds")
