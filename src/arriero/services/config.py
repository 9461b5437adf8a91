"""Settings of a workflow's service."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from arriero.types.services import LARGEST_QUEUE

#: The older name of the environment's ``LLAMA_DEPLOY_WF_SERVICE_HASH_SECRET``.
OLDER_NAME = "llama_deploy_HASH_SECRET"


class WorkflowServiceConfig(BaseSettings):
    """How a workflow is served; environment prefixes ``LLAMA_DEPLOY_WF_SERVICE_`` and ``WORKFLOW_SERVICE_``.

    ``internal_host`` and ``internal_port`` override what is bound. ``step_interval`` is accepted and has no effect.
    ``durability``: with ``journal`` a run that was interrupted goes on behind the last step that had ended; with
    ``task`` it begins anew; with ``none`` it begins anew, and nothing is kept for the session's next run. ``sends``:
    what a step sends goes on when the step ends, in one commit with its result (``transactional``), or at once
    (``eager``), and then again when the step is interrupted. A run that waits for an event is kept at hand for
    ``linger`` seconds, and takes no memory then.
    ``session_concurrency``: ``ordered`` runs the tasks of a session one after another, ``parallel`` at once, without
    saving what they leave in the session's context. ``max_queue`` is how many of its tasks may be queued; None is what
    the control plane allows. ``hash_secret`` signs the states that are dumped; without one of your own, the signature
    shows damage and no more.
    """

    model_config = SettingsConfigDict(env_prefix="LLAMA_DEPLOY_WF_SERVICE_", extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    internal_host: str | None = None
    internal_port: int | None = Field(default=None, ge=0, le=65535)
    service_name: str = "default_workflow_service"
    description: str = "A service that wraps a llama-index workflow."
    running: bool = True
    step_interval: float = 0.1
    max_concurrent_tasks: int = Field(default=8, ge=1)
    raise_exceptions: bool = False
    use_tls: bool = False
    session_concurrency: Literal["ordered", "parallel"] = "ordered"
    durability: Literal["journal", "task", "none"] = "journal"
    sends: Literal["transactional", "eager"] = "transactional"
    linger: float = Field(default=1.0, ge=0)
    max_queue: int | None = Field(default=None, ge=1, le=LARGEST_QUEUE)
    hash_secret: SecretStr = Field(default_factory=lambda: SecretStr(os.environ.get(OLDER_NAME) or "default"))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        older = EnvSettingsSource(settings_cls, env_prefix="WORKFLOW_SERVICE_")
        return init_settings, env_settings, older, dotenv_settings, file_secret_settings

    @property
    def url(self) -> str:
        """The address of the service's own routes."""
        scheme = "https" if self.use_tls else "http"
        return f"{scheme}://{self.host}:{self.port}" if self.port else f"{scheme}://{self.host}"
