"""``arriero dead``: tasks that failed or are dead, and what to do with them."""

from __future__ import annotations

from datetime import datetime

import click

from arriero.cli.asking import ask, of_control_plane, or_json, plain, print_json, print_table


@click.group()
def dead() -> None:
    """Tasks that failed or are dead, and that nobody has dealt with."""


@dead.command("list")
@click.option("--service", help="Only those of this service.")
@of_control_plane
@or_json
def list_dead(service: str | None, url: str | None, *, as_json: bool) -> None:
    """Print them, the oldest first."""
    found = ask(url, lambda client: client.list_dead(service))
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No task waits to be dealt with.", err=True)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("ended", "task", "service", "status", "attempts", "losses", "error"):
        table.add_column(name, no_wrap=name in ("ended", "task"), overflow="fold")
    for task in found:
        error = f"{task.error.type or task.error.code}: {task.error.message}" if task.error is not None else ""
        ended = datetime.fromtimestamp(task.finished_at).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006  # one's own time
        numbers = (str(task.attempts), str(task.losses))
        table.add_row(ended, task.task_id, Text(plain(task.service)), task.status.value, *numbers, Text(plain(error)))
    print_table(table)


@dead.command()
@click.argument("task")
@of_control_plane
@or_json
def show(task: str, url: str | None, *, as_json: bool) -> None:
    """Print what is known of TASK."""
    found = ask(url, lambda client: client.get_dead(task))
    if as_json:
        print_json(found)
        return
    import msgspec

    for name, value in msgspec.to_builtins(found).items():
        click.echo(plain(f"{name}: {value}"))


@dead.command(short_help="Begin a task with the same input.")
@click.argument("task")
@of_control_plane
def replay(task: str, url: str | None) -> None:
    """Begin a task with the same input, and print its id; TASK leaves the list."""
    click.echo(ask(url, lambda client: client.replay_dead(task)))


@dead.command()
@click.argument("task")
@of_control_plane
def drop(task: str, url: str | None) -> None:
    """Take TASK off the list."""
    ask(url, lambda client: client.drop_dead(task))
