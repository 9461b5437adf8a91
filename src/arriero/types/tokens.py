"""The bearer tokens that a server takes, and what each of them opens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from arriero.types.errors import ConfigurationError
from arriero.types.secrets import LONGEST, checked, found_token, read_private

#: Headers that were right and are known again without being hashed.
REMEMBERED = 256


class Scope(IntEnum):
    """What a token opens; each scope includes those before it."""

    READ = 1
    RUN = 2
    DEPLOY = 3

    @property
    def word(self) -> str:
        """As it is written in settings and errors."""
        return self.name.lower()


_SCOPES = {scope.word: scope for scope in Scope}


class TokenSettings(BaseSettings):
    """The tokens that servers take; environment prefix ``ARRIERO_``. With any of them, every request needs one.

    A scope is ``read`` (see everything), ``run`` (also submit and cancel tasks, send events, change sessions) or
    ``deploy`` (also register and serve services, and use the message queue). A token has 16 to 512 characters.
    """

    model_config = SettingsConfigDict(env_prefix="ARRIERO_", extra="forbid", hide_input_in_errors=True)

    #: ``scope:token`` pairs with commas between them, or a JSON object of scopes to a token or a list of tokens.
    tokens: SecretStr | None = None
    #: A file with a scope and a token on each line, which only its owner may read.
    tokens_file: Path | None = None

    def pairs(self) -> Iterator[tuple[Scope, str]]:
        """Each scope with a token. Errors: ``ConfigurationError``, without the token."""
        if self.tokens is not None:
            yield from _checked(_listed(self.tokens.get_secret_value()), "ARRIERO_TOKENS")
        if self.tokens_file is not None:
            yield from _checked(_in_file(self.tokens_file), "ARRIERO_TOKENS_FILE")


class Tokens:
    """Finds what a request's ``Authorization`` opens; it holds digests of tokens, and shows none.

    ``local`` is a file that may come to hold one more token, which opens everything.
    """

    def __init__(
        self, pairs: Iterable[tuple[Scope, str]] = (), local: Path | None = None, *, configured: bool = False
    ) -> None:
        #: Whether somebody chose them; without that a server stays on this machine.
        self.configured = configured
        self._scopes: dict[bytes, Scope] = {}
        self._remembered: dict[bytes, Scope] = {}
        self._local = local
        #: For callers of the same process, who need none of their own; None where no token is needed.
        self.own: str | None = None
        for scope, token in pairs:
            digest = _digest(token.encode())
            if self._scopes.setdefault(digest, scope) != scope:
                raise ConfigurationError("one token is given two scopes; a wider scope includes the others")
        if self._scopes:
            self.own = token_urlsafe(32)
            self._scopes[_digest(self.own.encode())] = Scope.DEPLOY

    def __bool__(self) -> bool:
        """Whether a token is needed."""
        return bool(self._scopes) or self._found_local()

    def scope_of(self, header: bytes) -> Scope | None:
        """What the value of an ``Authorization`` header opens; None is nothing."""
        known = self._remembered.get(header)
        if known is not None:
            return known
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer" or len(header) > 2 * LONGEST:
            return None
        digest = _digest(token.strip(b" "))
        scope = self._opens(digest)
        if scope is None and self._found_local():
            scope = self._opens(digest)
        if scope is not None and len(self._remembered) < REMEMBERED:
            self._remembered[header] = scope
        return scope

    def _opens(self, digest: bytes) -> Scope | None:
        found = None
        for known, scope in self._scopes.items():
            if compare_digest(known, digest):
                found = scope
        return found

    def _found_local(self) -> bool:
        """Whether the local file holds a token; it is known from then on."""
        if self._local is None or not self._local.is_file():
            return False
        try:
            digest = _digest(found_token(self._local).encode())
        except ConfigurationError:
            return False  # whoever sends it is told so; for a server it is no token
        self._scopes.setdefault(digest, Scope.DEPLOY)
        return True


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


def _checked(pairs: Iterable[tuple[str, str]], source: str) -> Iterator[tuple[Scope, str]]:
    number = 0
    for number, (word, token) in enumerate(pairs, 1):
        scope = _SCOPES.get(word.strip().lower())
        if scope is None:
            raise ConfigurationError(
                f"{source}: entry {number} has no scope; write one of {', '.join(_SCOPES)} and a colon before a token"
            )
        yield scope, checked(token.strip(), f"{source}: token {number}")
    if not number:
        raise ConfigurationError(f"{source} is set and holds no token; unset it, or give scope and token")


def _listed(text: str) -> Iterator[tuple[str, str]]:
    if text.lstrip().startswith("{"):
        yield from _in_object(text)
        return
    for entry in text.split(","):
        if entry.strip():
            word, _, token = entry.partition(":")
            yield word, token


def _in_object(text: str) -> Iterator[tuple[str, str]]:
    try:
        known = json.loads(text)
    except ValueError:
        raise ConfigurationError("ARRIERO_TOKENS begins as a JSON object and is none") from None
    assert isinstance(known, Mapping)  # it begins with a brace
    for word, given in known.items():
        for token in given if isinstance(given, list) else [given]:
            if not isinstance(token, str):
                raise ConfigurationError("ARRIERO_TOKENS: in a JSON object, each scope has a text or a list of texts")
            yield word, token


def _in_file(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = read_private(path, "ARRIERO_TOKENS_FILE")
    except OSError as error:
        raise ConfigurationError(f"ARRIERO_TOKENS_FILE {str(path)!r} cannot be read: {error.strerror}") from error
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            word, _, token = line.replace("\t", " ").partition(" ")
            yield word, token
