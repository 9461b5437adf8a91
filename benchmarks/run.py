"""``make bench``: measures Arriero beside the engine alone and beside its neighbours, and writes docs/benchmarks.md.

A missed target is a finding, not a failure: the exit status is 1 only when a measurement could not be made.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

import machine
import page
import trials
from figures import DISTURBED, Figures, Quality, Row
from plan import FULL, QUICK, Plan, attempt, median_of
from systems import SYSTEMS, ours, taskiq_redis
from targets import ALONE

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
#: Tasks after which memory is measured first.
FEW = 500
#: Most trials of one system in one round.
TRIALS = 3


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, and its folders go
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL
    names = arguments.only or list(SYSTEMS)
    figures = Figures({name: Row(SYSTEMS[name]) for name in names}, plan.rounds)
    if arguments.alone:
        for one in arguments.alone:
            ALONE[one](figures, plan)
        text = page.targets(figures.qualities)
    else:
        measure(figures, plan, everything=not arguments.only)
        text = page.written(figures, machine.facts(), machine.versions(taskiq_redis.URL))
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
        print(f"written to {arguments.output}")
    else:
        print(text)
    print(*figures.troubles, sep="\n\n", file=sys.stderr)
    return 1 if figures.troubles else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, printed and not written")
    parser.add_argument("--output", type=Path, help="where to write the page; docs/benchmarks.md for a full run")
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), help="measure the speed of these, print it")
    for name, one in ALONE.items():
        about = f"print only: {(one.__doc__ or '').rstrip('.').lower()}"
        parser.add_argument(f"--{name}", dest="alone", action="append_const", const=name, help=about)
    arguments = parser.parse_args()
    if arguments.output is None and not (arguments.quick or arguments.only or arguments.alone):
        arguments.output = PAGE
    return arguments


def measure(figures: Figures, plan: Plan, *, everything: bool) -> None:
    """Speed, and what is measured beside it."""
    speeds(figures, plan)
    if everything:
        qualities(figures, plan)


def speeds(figures: Figures, plan: Plan) -> None:
    """Every system once in each round, so that what else the machine does hits all alike."""
    amounts = {"warm": plan.warm, "sequential": plan.sequential, "at_once": plan.at_once}
    patience = time.monotonic() + plan.patience
    for row in figures.rows.values():
        row.missing = row.system.absent()
    for number in range(plan.rounds):
        for row in figures.rows.values():
            if not row.missing:
                _round(figures, row, number, amounts, patience)


def _round(figures: Figures, row: Row, number: int, amounts: dict[str, float], patience: float) -> None:
    """One trial, or the least disturbed of a few."""
    found: list[dict[str, Any]] = []
    what = f"round {number + 1}: {row.system.title}"
    while len(found) < TRIALS:
        trial = attempt(figures, what, lambda: trials.client("speed", row.system, amounts, longest=90))
        if trial is None:
            break
        found.append(trial)
        print(f"    {trial['p50_ms']:.2f} ms, {trial['per_second']:.0f}/s, others {trial['others']:.0%}", flush=True)
        if trial["others"] <= DISTURBED or time.monotonic() > patience:
            break
    if found:
        row.rounds.append(min(found, key=lambda trial: float(trial["others"])))


def qualities(figures: Figures, plan: Plan) -> None:
    """The targets beside speed."""
    _starts(figures, plan)
    _commits(figures)
    for part in ALONE.values():
        part(figures, plan)
    _growth(figures, plan)


def _starts(figures: Figures, plan: Plan) -> None:
    cold = attempt(figures, "cold start", lambda: median_of(plan.rounds, trials.cold_start))
    if cold is not None:
        figures.qualities.append(Quality("cold start to first result", f"{cold:.2f} s", "1.5 s", cold <= 1.5))
    for statement, target in (
        ("import arriero", 0.3),
        ("from arriero import AsyncLlamaDeployClient", None),
        ("from arriero import deploy_core, deploy_workflow", None),
    ):
        taken = attempt(figures, statement, lambda: median_of(plan.rounds, lambda: trials.import_time(statement)))  # noqa: B023 - called before the next turn
        if taken is not None:
            met = None if target is None else taken <= target
            figures.qualities.append(Quality(f"`{statement}`", f"{taken:.3f} s", f"{target} s" if target else "", met))
    sync = attempt(figures, "one write kept by the disk", trials.sync_time)
    if sync is not None:
        figures.qualities.append(Quality("one 4 KiB write and fsync (the disk, not Arriero)", f"{sync:.2f} ms"))


def _commits(figures: Figures) -> None:
    amounts = {"sequential": 200.0, "at_once": 2000.0}
    found = attempt(figures, "commits a task", lambda: trials.client("commits", ours.TOGETHER, amounts, longest=60))
    for way, words in (("sequential", "one after another"), ("at_once", "64 in flight")):
        if found is not None:
            commits, groups, durable = found[way]
            measured = f"{commits:.2f} in {groups:.2f} transactions, of which {durable:.2f} wait for the disk"
            figures.qualities.append(Quality(f"commits a task, {words}", measured, "3", round(commits, 1) <= 3))


def _growth(figures: Figures, plan: Plan) -> None:
    amounts = {"few": float(FEW), "many": float(plan.many), "idle": plan.idle}
    found = attempt(
        figures, "memory and idle time", lambda: trials.client("growth", ours.APART, amounts, plan.idle + 120)
    )
    if found is not None:
        _memory(figures, "64 sessions", found)
        share = sum(found["idle"].values()) / plan.idle
        parts = ", ".join(f"{role} {spent / plan.idle:.2%}" for role, spent in found["idle"].items())
        what = f"processor time of all processes, idle for {plan.idle:g} s"
        figures.qualities.append(Quality(what, f"{share:.2%} ({parts})", "1 %", share < 0.01))
    if plan.fresh:
        amounts["idle"] = 0.0
        found = attempt(
            figures, "memory, a session a task", lambda: trials.client("growth", ours.FRESH, amounts, longest=120)
        )
        if found is not None:
            _memory(figures, "a session a task, deleted after it", found)
    for sessions in dict.fromkeys(line[0] for line in figures.memory):
        worst = max(late / early for way, _, early, late in figures.memory if way == sessions)
        what = f"memory after {plan.many:,} tasks over {FEW}, the worst process; {sessions}"
        figures.qualities.append(Quality(what, f"{worst:.2f}", "1.2", worst <= 1.2))


def _memory(figures: Figures, sessions: str, found: dict[str, dict[str, float]]) -> None:
    figures.memory += [(sessions, role, early, found["late"][role]) for role, early in found["early"].items()]


if __name__ == "__main__":
    sys.exit(main())
