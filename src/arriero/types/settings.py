"""Settings that more than one room needs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, HttpUrl, TypeAdapter, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

#: An HTTP address as text, as :class:`pydantic.HttpUrl` writes it.
PydanticValidatedUrl = Annotated[str, BeforeValidator(lambda url: str(TypeAdapter(HttpUrl).validate_python(url)))]


class ControlPlaneConfig(BaseSettings):
    """Where the control plane is and how it keeps things; environment prefix ``CONTROL_PLANE_``.

    ``internal_host`` and ``internal_port`` override what is bound, ``host`` and ``port`` are what others connect to.
    ``step_interval``, the three store keys and ``running`` are accepted and reported as documented; nothing polls.
    Durations are in seconds, sizes in bytes.
    """

    model_config = SettingsConfigDict(env_prefix="CONTROL_PLANE_", extra="forbid", validate_default=True)

    services_store_key: str = "services"
    tasks_store_key: str = "tasks"
    session_store_key: str = "sessions"
    step_interval: float = 0.1
    host: str = "127.0.0.1"
    port: int | None = Field(default=8000, ge=0, le=65535)
    internal_host: str | None = None
    internal_port: int | None = Field(default=None, ge=0, le=65535)
    running: bool = True
    cors_origins: list[str] | None = None
    topic_namespace: str = "llama_deploy"
    #: ``sqlite:///path`` or ``memory:``; None is ``sqlite:///.arriero/state.db``.
    state_store_uri: str | None = None
    use_tls: bool = False
    #: Whether requests need a token though none is configured: that of the local file beside the database.
    require_token: bool = Field(default=False, exclude=True)
    #: Names in ``Host`` under which it is asked besides ``host`` and those of this machine.
    allowed_hosts: list[str] = Field(default_factory=list, exclude=True)

    #: How long a claim holds without renewal, and how often a worker renews it.
    lease: float = Field(default=15.0, gt=0)
    renew_every: float = Field(default=5.0, gt=0)
    #: How long a closed link may stay away before its items are given back.
    link_grace: float = Field(default=0.5, ge=0)
    #: How many workers may be lost over one item before it is ``dead``.
    max_losses: int = Field(default=5, ge=1)
    #: Largest input of a task.
    max_input: int = Field(default=10 * 1024 * 1024, gt=0)
    #: Largest event that a handler puts on its task's stream, or that is sent to a task from outside. The one that
    #: ends a run holds its result, and may be as large as that.
    max_event: int = Field(default=1024 * 1024, gt=0, le=32 * 1024 * 1024)
    #: How many services deep services may call one another.
    max_nesting: int = Field(default=32, ge=0)
    #: Longest that one request waits for a result.
    max_wait: float = Field(default=60.0, gt=0)
    #: An input or result larger than this is stored once, apart from the task.
    large_value: int = Field(default=256 * 1024, gt=0)
    #: How many items of one service may be queued; None for any number. A service may set its own ``max_queue``.
    max_queue: int | None = Field(default=100_000, ge=1)
    #: How long a task is kept after its end; None for ever.
    keep_finished_for: float | None = Field(default=7 * 86400.0, gt=0, allow_inf_nan=False)

    @field_validator("max_queue", "keep_finished_for", mode="before")
    @classmethod
    def _none_in_words(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value

    #: How many streams may be open at once, over all tasks; each takes a connection.
    max_streams: int = Field(default=10_000, gt=0)
    #: After how long without an event a stream of server-sent events says that it is still there.
    stream_keep_alive: float = Field(default=15.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _store_by_its_uri(cls, data: Any) -> Any:
        if isinstance(data, dict) and "state_store" in data:
            raise ValueError("state_store was a key-value store, which is not supported; set state_store_uri instead")
        return data

    @field_validator("topic_namespace")
    @classmethod
    def _is_one_word(cls, value: str) -> str:
        if not value or any(c.isspace() or c in "/\0" for c in value):
            raise ValueError("topic_namespace must be one word without spaces, slashes or NUL")
        return value

    @property
    def url(self) -> str:
        """The address that clients and workers use."""
        scheme = "https" if self.use_tls else "http"
        return f"{scheme}://{self.host}:{self.port}" if self.port else f"{scheme}://{self.host}"
