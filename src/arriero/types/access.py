"""What a server takes: which tokens, under which names, from which web pages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from arriero.types.credentials import credentials, local_file
from arriero.types.errors import ConfigurationError
from arriero.types.loopback import is_loopback
from arriero.types.secrets import kept_token
from arriero.types.tokens import Scope, Tokens, TokenSettings

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Access:
    """``hosts`` are names besides this machine's own; none of them means any, for a server beyond ``loopback``.

    On loopback the name is always checked, because a web page can give any name this machine's address.
    """

    tokens: Tokens = field(default_factory=Tokens)
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    loopback: bool = True

    @classmethod
    def to(
        cls, tokens: Tokens, bound: str, host: str, allowed: Iterable[str] = (), origins: Iterable[str] = ()
    ) -> Self:
        """For a server bound to ``bound``, which others call ``host`` and by the ``allowed`` names."""
        loopback, names = is_loopback(bound), {name.lower() for name in allowed}
        hosts = names | {host.lower()} if names or loopback else names
        return cls(tokens, frozenset(hosts), frozenset(origins), loopback)

    def takes_host(self, host: str) -> bool:
        """Whether the value of a ``Host`` header names this server."""
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match[1].strip("[]")
        return (not self.loopback and not self.hosts) or is_loopback(name) or name in self.hosts

    def takes_origin(self, origin: str, host: str) -> bool:
        """Whether a web page of that origin may ask: one of the server's own, or one that is configured."""
        scheme, _, place = origin.lower().partition("://")
        return (scheme in ("http", "https") and place == host.lower()) or self.is_foreign(origin)

    def is_foreign(self, origin: str) -> bool:
        """Whether it is one of the configured origins."""
        return origin in self.origins or "*" in self.origins


def core_tokens(file: Path | None, *, required: bool) -> Tokens:
    """The tokens of a core: those configured and, when any is needed, the one that it keeps in the local file.

    Errors: ``ConfigurationError``, also when a token is required and there would be none.
    """
    pairs = list(TokenSettings().pairs())
    configured = bool(pairs)
    if (configured or required) and file is not None:
        pairs.append((Scope.DEPLOY, kept_token(file)))
    if required and not pairs:
        raise ConfigurationError(
            "CONTROL_PLANE_REQUIRE_TOKEN is set, and there is no token: set ARRIERO_TOKENS or ARRIERO_TOKENS_FILE"
        )
    return Tokens(pairs, configured=configured)


def part_tokens(*own: Scope) -> Tokens:
    """The tokens of any other server: those configured, the local file's once there is one.

    A service also takes the token that its own process sends, as one of the scope ``own``: it acts with that token, so
    nobody may make it act without.
    """
    pairs = list(TokenSettings().pairs())
    sent = credentials().token
    if sent is not None:
        known = {token for _, token in pairs}
        pairs.extend((scope, sent.get_secret_value()) for scope in own if sent.get_secret_value() not in known)
    return Tokens(pairs, local_file(), configured=bool(pairs))
