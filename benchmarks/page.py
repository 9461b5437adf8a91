"""The page: docs/benchmarks.md, made of the figures of one run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from figures import DISTURBED, GONE, WARM, Figures, Quality, Row

INTRODUCTION = """\
# Benchmarks

`make bench` writes this page. It shows {medians}, taken in turns so that whatever else the machine does hits every
system alike. A task is a no-op: it takes one number and returns it. *p50* is one task after another from a single
client; *tasks a second* is with 64 in flight, each in a session of its own that is used again. Each figure is taken
after a warm-up. Everything runs on loopback on one machine, so that client, broker and workers share its cores."""

METHOD = """\
## How it is measured

- Every process runs on uvloop, the clients included. Servers are started anew for each round, on an empty database.
- The process of the client, in which the engine alone and everything in one process run too, looks for reference cycles
  as seldom as those of `python -m arriero` do: `gc.set_threshold(20_000, 20, 100)`.
- Arriero is called with `session.run()` of `AsyncLlamaDeployClient`; its core and worker are `python -m arriero core`
  and `python -m arriero worker`, as anyone would start them, with the simple message queue and SQLite. Nothing is
  answered before it is on disk.
- llama-agents-server keeps its handlers in SQLite and is called with one request a task over kept aiohttp connections,
  which is faster than the client that comes with it.
- Taskiq has one worker process with 64 tasks at once. Its client looks for a result every 5 ms, which is the best
  compromise that we found: 2 ms make one call faster and 64 at once slower. Its results expire, and are removed
  when they are read. How much of it survives is the Redis' own affair.
- Streams are read as server-sent events by plain HTTP connections from one process, which shares the two cores with
  the core and the worker. An event tells when it was made; it has reached its reader when the bytes have. Every reader
  must have got every event once and in order, or there is no figure. The core's growth is its largest size meanwhile
  over the one before.
- A chain of services, and workflows of many steps, are called one run after another, each length in its turn. Every
  service has a worker process of its own. What a hop or a step adds is the difference of medians over the number of
  hops or steps between them.
- From the call that cancels to the coroutine, from the kill of a worker to the step that begins again on another: both
  ends are read from the clock that all processes share.
- Runs that wait have asked, and nobody has answered. Memory is that of {gone:g} s after the last has asked, over what
  the same processes held when they had had {warm} such runs and were idle again.
- *Used by other programs* is the share of all processors' time meanwhile: the more, the less a figure says.
- A trial during which other programs used more than {disturbed:.0%} of the processors is made again, as time allows.
- *Processor time* is what the kernel counted for a process and its children with 64 tasks in flight, over the tasks.
- *Met* compares with the budget that Arriero set itself. A figure that misses it is shown as it is."""


def written(figures: Figures, facts: Mapping[str, str], versions: Mapping[str, str]) -> str:
    rows = list(figures.rows.values())
    medians = f"medians of {figures.rounds} rounds" if figures.rounds > 1 else "a single round"
    parts = [INTRODUCTION.format(medians=medians), "## Speed", speed(rows), "## Processor time", processor(rows)]
    if figures.qualities:
        parts += ["## Other targets", targets(figures.qualities)]
    if figures.memory:
        parts += ["## Memory", memory(figures.memory)]
    facts = {**facts, "in use by other programs": others(rows)}
    parts += [
        METHOD.format(disturbed=DISTURBED, gone=GONE, warm=WARM),
        "## Machine",
        pairs(facts),
        "## Versions",
        pairs(versions),
    ]
    return "\n\n".join(parts) + "\n"


def speed(rows: Sequence[Row]) -> str:
    engine = next((row for row in rows if row.system.name == "engine" and row.rounds), None)
    heads = ["", "guarantee", "p50, ms", "of the engine", "tasks a second", "of the engine", "budget", "met"]
    return table(heads, [_speed(row, engine) for row in rows])


def _speed(row: Row, engine: Row | None) -> list[str]:
    start = [row.system.title, row.system.guarantee]
    if not row.rounds:
        return [*start, row.missing or "the measurement failed", "", "", "", "", ""]
    p50, rate = row.median("p50_ms"), row.median("per_second")
    slower = f"{p50 / engine.median('p50_ms'):.1f} x" if engine else ""
    share = f"{rate / engine.median('per_second'):.0%}" if engine else ""
    return [*start, f"{p50:.2f}", slower, f"{rate:,.0f}", share, *_budget(row, p50, rate)]


def _budget(row: Row, p50: float, rate: float) -> list[str]:
    budget = row.system.budget
    if budget is None:
        return ["", ""]
    met = [p50 <= budget.p50_ms, rate >= budget.per_second]
    missed = " and ".join(word for word, good in zip(("p50", "rate"), met, strict=True) if not good)
    return [f"{budget.p50_ms:g} ms, {budget.per_second:,.0f}/s", f"no: {missed}" if missed else "yes"]


def processor(rows: Sequence[Row]) -> str:
    measured = [row for row in rows if row.rounds]
    roles = list(dict.fromkeys(role for row in measured for role in row.cpu_us))
    lines = []
    for row in measured:
        spent = row.cpu_us
        each = [f"{spent[role]:,.0f}" if role in spent else "" for role in roles]
        lines.append([row.system.title, *each, f"{sum(spent.values()):,.0f}"])
    return "Microseconds a task, of each process.\n\n" + table(["", *roles, "sum"], lines)


def targets(qualities: Sequence[Quality]) -> str:
    words = {True: "yes", False: "no", None: ""}
    lines = []
    for quality in qualities:
        used = "" if quality.others is None else f"{quality.others:.0%}"
        lines.append([quality.what, quality.measured, quality.target, words[quality.met], used])
    return table(["", "measured", "at most", "met", "used by other programs"], lines)


def memory(lines: Sequence[tuple[str, str, float, float]]) -> str:
    rows = [[way, role, f"{early:.1f}", f"{late:.1f}", f"{late / early:.2f}"] for way, role, early, late in lines]
    return "MiB that each process holds, after few tasks and after many.\n\n" + table(
        ["sessions", "process", "few", "many", "ratio"], rows
    )


def pairs(values: Mapping[str, str]) -> str:
    return table(["", ""], [[name, value] for name, value in values.items()])


def others(rows: Sequence[Row]) -> str:
    """How much of the processors was not ours meanwhile: what shakes the figures."""
    shares = [share for row in rows for share in row.others]
    if not shares:
        return "unknown"
    return f"{statistics.median(shares):.0%} of the processors' time meanwhile, at most {max(shares):.0%}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rules = ["---" for _ in heads]
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, rules, *rows])
