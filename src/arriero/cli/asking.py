"""Commands that ask a control plane something and print the answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arriero.cli.worker import control_plane_at

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from arriero.client import AsyncLlamaDeployClient

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: Seconds that a command waits for the control plane.
PATIENCE = 10.0
#: Columns of what is not printed to a terminal.
WIDE = 160


def of_control_plane(command: F) -> F:
    """The option by which a command finds the control plane."""
    where = "Address of the control plane. [CONTROL_PLANE_HOST and _PORT]"
    return click.option("--control-plane", "url", help=where)(command)


def or_json(command: F) -> F:
    """The option by which a command prints JSON instead."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def ask(url: str | None, question: Callable[[AsyncLlamaDeployClient], Awaitable[T]]) -> T:
    """What the control plane answers."""

    async def asked() -> T:
        from arriero.client import AsyncLlamaDeployClient
        from arriero.types.settings import ControlPlaneConfig

        async with AsyncLlamaDeployClient(control_plane_at(url) or ControlPlaneConfig(), PATIENCE) as client:
            return await question(client)

    return asyncio.run(asked())


def print_json(value: Any) -> None:
    """The value as JSON, indented."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def console() -> Console:
    """Where tables are printed: as wide as the terminal, or wide."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def print_table(table: Table) -> None:
    """The table, without the blanks that fill up its lines."""
    out = console()
    with out.capture() as capture:
        out.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def plain(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
