"""``arriero history``: what has happened to a task."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import click

from arriero.cli.asking import ask, console, of_control_plane, or_json, plain, print_json, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from arriero.client import AsyncLlamaDeployClient
    from arriero.types.errors import ErrorInfo
    from arriero.types.history import HistoryEntry, TaskHistory

#: Characters of an id by which people know it: its end, for the beginning is the time.
SHORT = 8
#: Characters of an event that are shown in a line.
SHOWN = 200
COLOURS = {
    "step": "green",
    "step_failed": "red",
    "lost": "red",
    "retried": "yellow",
    "parked": "yellow",
    "event": "cyan",
    "sent": "magenta",
}


@click.command()
@click.argument("task")
@click.option("--session", help="The task's session; it is found without, too.")
@click.option("--data", is_flag=True, help="Show what events hold.")
@of_control_plane
@or_json
def history(task: str, session: str | None, url: str | None, *, data: bool, as_json: bool) -> None:
    """Print what has happened to TASK, in order."""
    from arriero.client.session import Session

    async def question(client: AsyncLlamaDeployClient) -> TaskHistory:
        session_id = session or (await client.find_task(task)).session_id or ""
        return await Session(client.caller, session_id).history(task, data=data)

    found = ask(url, question)
    if as_json:
        print_json(found)
        return
    out = console()
    for line in _head(found):
        out.print(line, markup=False, soft_wrap=True)
    print_table(_table(found))


def _head(found: TaskHistory) -> list[str]:
    lasted = f", {found.finished_at - found.created_at:.3f} s" if found.finished_at is not None else ""
    lines = [
        f"task {found.task_id} of session {found.session_id}",
        f"{found.service}: {found.status.value}; attempts: {found.attempts}{lasted}",
    ]
    if found.forked_from is not None:
        lines.append(f"forked from task {found.forked_from} behind step {found.forked_after}")
    if found.replay_of is not None:
        lines.append(f"replay of task {found.replay_of}")
    if found.error is not None:
        lines.append(_told(found.error))
    lines += [
        f"{item.path or item.service} waits for {_listed(item.waits_for)}" for item in found.items if item.waits_for
    ]
    if found.left_out:
        lines.append("left out, for there are too many: " + ", ".join(sorted(found.left_out)))
    return [plain(line) for line in lines]


def _listed(waits: list[dict[str, object]]) -> str:
    values = [
        each for wait in waits for value in wait.values() for each in (value if isinstance(value, list) else [value])
    ]
    return ", ".join(map(str, values))


def _table(found: TaskHistory) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name, justify in (("time", "left"), ("after s", "right"), ("where", "left"), ("what", "left"), ("", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "", overflow="fold")  # type: ignore[arg-type]  # literals
    for entry in found.entries:
        what, more = _said(entry)
        table.add_row(
            datetime.fromtimestamp(entry.at).strftime("%H:%M:%S.%f")[:-3],  # noqa: DTZ006  # people read their own time
            f"{entry.at - found.created_at:.3f}",
            plain(entry.path or entry.service),
            Text(plain(what), style=COLOURS.get(entry.kind, "")),
            Text(plain(more)),
        )
    return table


def _said(entry: HistoryEntry) -> tuple[str, str]:
    """What happened in a word or two, and more about it."""
    match entry.kind:
        case "step" | "step_failed" | "step_waits":
            return _step(entry)
        case "event" | "sent":
            return f"{entry.kind} {entry.type.rpartition('.')[2]}", _data(entry)
        case "claimed":
            return "claimed", f"by worker {entry.worker_id[-SHORT:]}, claim {entry.epoch}"
        case "retried":
            error = _told(entry.error) if entry.error is not None else ""
            return "failed", f"attempt {entry.attempt}, again in {entry.delay or 0:.1f} s: {error}"
        case "ended" | "item_ended":
            whose = "task " if entry.kind == "ended" else ""
            return f"{whose}{entry.status.value if entry.status else ''}", _told(entry.error) if entry.error else ""
        case _:
            return entry.kind, entry.reason


def _step(entry: HistoryEntry) -> tuple[str, str]:
    took = f" after {entry.at - entry.since:.3f} s" if entry.since is not None else ""
    if entry.kind == "step" and not entry.finished:
        return f"step {entry.step}", f"ended the run{took}"
    if entry.kind == "step":
        more = f" ({entry.reason})" if entry.reason else ""
        return f"step {entry.finished} {entry.step}", f"gave {entry.result or 'nothing'}{took}{more}"
    if entry.kind == "step_waits":
        return f"step {entry.step}", f"waits for {entry.result}"
    again = f"; tried again in {entry.delay:.1f} s" if entry.delay is not None else ""
    return f"step {entry.step}", f"raised {_told(entry.error) if entry.error else ''}{took}{again}"


def _data(entry: HistoryEntry) -> str:
    return json.dumps(entry.data, ensure_ascii=False)[:SHOWN] if entry.data is not None else ""


def _told(error: ErrorInfo) -> str:
    where = f" in step {error.details['step']}" if "step" in error.details else ""
    return f"{error.type or error.code}{where}: {error.message}"
