"""``arriero`` and ``python -m arriero``."""

from __future__ import annotations

import importlib.metadata
import sys

import click

from arriero.cli.core import core
from arriero.cli.worker import worker
from arriero.types.errors import ArrieroError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("arriero"), prog_name="arriero")
def cli() -> None:
    """Run LlamaIndex workflows and functions as services."""


cli.add_command(core)
cli.add_command(worker)


def main() -> None:
    """Run the command line; a typed error is one line, not a traceback."""
    try:
        cli()
    except ArrieroError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
