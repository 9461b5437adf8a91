"""``arriero`` and ``python -m arriero``."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

import click

from arriero.cli.core import core
from arriero.cli.dead import dead
from arriero.cli.history import history
from arriero.cli.worker import worker
from arriero.types.errors import ArrieroError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("arriero"), prog_name="arriero")
def cli() -> None:
    """Run LlamaIndex workflows and functions as services."""


cli.add_command(core)
cli.add_command(worker)
cli.add_command(history)
cli.add_command(dead)


def main() -> None:
    """Run the command line; a typed error is one line, not a traceback."""
    try:
        cli()
    except ArrieroError as error:
        _refuse(str(error))
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        _refuse("; ".join(_wrong_setting(error.title, fault) for fault in error.errors(include_url=False)))


def _refuse(why: str) -> None:
    click.echo(f"Error: {' '.join(why.split())}", err=True)
    sys.exit(1)


def _wrong_setting(title: str, fault: Any) -> str:
    name = ".".join(map(str, fault["loc"]))
    return f"setting {name} of {title} cannot be {fault['input']!r}: {fault['msg']}"
