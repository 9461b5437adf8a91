"""``arriero core``: a control plane and its queue."""

from __future__ import annotations

from typing import Any

import click

from arriero.cli.running import run

LEVELS = click.Choice(["debug", "info", "warning", "error"])


@click.command(short_help="Run a control plane and its message queue.")
@click.option("--host", help="Address to listen on; beyond loopback only with tokens. [CONTROL_PLANE_HOST, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the control plane. [CONTROL_PLANE_PORT, 8000]")
@click.option(
    "--queue-port", type=click.IntRange(0, 65535), help="Port of the simple queue. [SIMPLE_MESSAGE_QUEUE_PORT, 8001]"
)
@click.option("--state", help="State store, as sqlite:///path or memory: [CONTROL_PLANE_STATE_STORE_URI]")
@click.option("--log-level", type=LEVELS, default="info", show_default=True)
def core(host: str | None, port: int | None, queue_port: int | None, state: str | None, log_level: str) -> None:
    """Run a control plane and the simple message queue until interrupted."""

    async def part() -> None:
        from arriero.deploy import deploy_core
        from arriero.message_queues import SimpleMessageQueueConfig
        from arriero.types.settings import ControlPlaneConfig

        config = ControlPlaneConfig(**given(host=host, port=port, state_store_uri=state))
        queue = SimpleMessageQueueConfig(**given(host=host, port=queue_port))
        await deploy_core(config, queue)

    run(part, log_level)


def given(**settings: Any) -> dict[str, Any]:
    """Only what was given, so that the environment decides the rest."""
    return {name: value for name, value in settings.items() if value is not None}
