"""The bearer token that a client, a worker or a queue client sends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from arriero.types.errors import REFUSALS, Misdirected, Refused
from arriero.types.loopback import is_loopback
from arriero.types.secrets import checked, found_token

DEFAULT_DATABASE = "sqlite:///.arriero/state.db"
_SQLITE = "sqlite:///"


class CredentialSettings(BaseSettings):
    """What a process shows to the servers that it calls; environment prefix ``ARRIERO_CLIENT_``."""

    model_config = SettingsConfigDict(
        env_prefix="ARRIERO_CLIENT_", extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )

    #: The bearer token that is sent; also read from ``ARRIERO_TOKEN``.
    token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("ARRIERO_CLIENT_TOKEN", "ARRIERO_TOKEN")
    )

    def authorization(self, url: str) -> str | None:
        """The ``Authorization`` for that address.

        It is the token given, else what a server within this process takes, else that of this machine's local file.

        Errors: ``ConfigurationError``.
        """
        place = urlsplit(url)
        if place.username is not None:
            return None  # the address brings credentials of its own
        if self.token is not None:
            return f"Bearer {checked(self.token.get_secret_value().strip(), 'the token to send (ARRIERO_TOKEN)')}"
        if (own := _served_here.get(_door(url))) is not None:
            return f"Bearer {own}"
        path = local_file()
        if path is None or not is_loopback(place.hostname or "") or not _is_ours(path):
            return None
        return f"Bearer {found_token(path)}"


@cache
def credentials() -> CredentialSettings:
    """Those of this process's environment, read once."""
    return CredentialSettings()


_served_here: dict[tuple[str, int | None], str] = {}


@contextmanager
def served_here(url: str, token: str | None) -> Iterator[None]:
    """Callers of this process send this token to that address meanwhile, unless they are given another."""
    if token is not None:
        _served_here[_door(url)] = token
    try:
        yield
    finally:
        if token is not None and _served_here.get(_door(url)) == token:
            del _served_here[_door(url)]


def _door(url: str) -> tuple[str, int | None]:
    place = urlsplit(url)
    host = place.hostname or ""
    return ("localhost" if is_loopback(host) else host), place.port


def token_file(state_store_uri: str | None) -> Path | None:
    """Where the core with that store keeps the local token: ``.arriero/token``, or the database's name and ``.token``.

    A core without a database has none.
    """
    uri = state_store_uri or DEFAULT_DATABASE
    if not uri.lower().startswith(_SQLITE):
        return None
    database = Path(uri[len(_SQLITE) :])
    return database.with_name("token" if database.parent.name == ".arriero" else f"{database.name}.token")


def local_file() -> Path | None:
    """Where this process would find the local token: beside the database that its environment names, or the default."""
    return token_file(os.environ.get("CONTROL_PLANE_STATE_STORE_URI"))


def bearer_headers(url: str) -> dict[str, str]:
    """The headers with this process's token for that address; empty without one. Errors: ``ConfigurationError``."""
    authorization = credentials().authorization(url)
    return {} if authorization is None else {"Authorization": authorization}


def refusal(status: int, what: str) -> Refused | None:
    """The error for a connection that was answered with that status; None when it is no refusal."""
    if (kind := REFUSALS.get(status)) is None:
        return None
    hint = "" if kind is Misdirected else "; ARRIERO_TOKEN must be a token that it knows, with the scope deploy"
    return kind(f"{what} refused the connection with status {status}{hint}")


def _is_ours(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)
