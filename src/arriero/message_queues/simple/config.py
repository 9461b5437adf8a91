"""Where the simple message queue is, and how much it takes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from arriero.message_queues.topics import Limits

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LIMITS = Limits()


class SimpleMessageQueueConfig(BaseSettings):
    """Address and limits of a simple message queue; environment prefix ``SIMPLE_MESSAGE_QUEUE_``.

    ``internal_host`` and ``internal_port`` override what is bound, ``host`` and ``port`` are what others connect to.
    ``client_kwargs`` takes ``headers``, ``timeout`` (seconds) and ``verify``. ``raise_exceptions`` is accepted as
    documented; errors are always raised.
    """

    model_config = SettingsConfigDict(env_prefix="SIMPLE_MESSAGE_QUEUE_", extra="forbid")

    type: Literal["simple"] = Field(default="simple", exclude=True)
    host: str = "127.0.0.1"
    port: int | None = Field(default=8001, ge=0, le=65535)
    internal_host: str | None = None
    internal_port: int | None = Field(default=None, ge=0, le=65535)
    client_kwargs: dict[str, Any] = Field(default_factory=dict)
    raise_exceptions: bool = False
    use_ssl: bool = False

    #: Largest message, in bytes.
    max_message: int = Field(default=_LIMITS.message_bytes, gt=0)
    #: Most messages that wait on one topic.
    max_depth: int = Field(default=_LIMITS.depth, gt=0)

    #: Hosts to which the server posts messages of consumers that register a URL, beside this machine; a JSON list.
    push_hosts: list[str] = Field(default=[], exclude=True)

    @property
    def base_url(self) -> str:
        """The address that clients use, with a slash at its end."""
        scheme = "https" if self.use_ssl else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port in {None, _DEFAULT_PORTS[scheme]} else f":{self.port}"
        return f"{scheme}://{host}{port}/"

    @property
    def limits(self) -> Limits:
        """The limits of the queue behind the server."""
        return Limits(depth=self.max_depth, message_bytes=self.max_message)
