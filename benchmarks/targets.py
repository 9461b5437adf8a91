"""The targets of single parts. Each of these measurements can be run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import trials
from figures import Figures, Quality, medians
from plan import Plan, attempt

#: Readers of one stream, its events, and the milliseconds between two of them.
READERS, EVENTS, PAUSE = 1_000, 1_000, 2.0
Found = dict[str, Any]


def streams(figures: Figures, plan: Plan) -> None:
    """How soon events reach their readers, and what a crowd of readers costs."""
    for readers in (1, 100):
        prompt = _median_trial(figures, plan, readers, events=200, pause_ms=10)
        if prompt is not None:
            what = f"event to reader, {readers} of them, an event every 10 ms"
            for name, most in (("p50_ms", 10), ("p99_ms", 50)):
                value = prompt[name]
                figures.qualities.append(Quality(f"{what}: {name[:3]}", f"{value:.1f} ms", f"{most} ms", value <= most))
    one = _median_trial(figures, plan, 1, EVENTS, pause_ms=PAUSE)
    crowd = _median_trial(figures, plan, READERS, EVENTS, pause_ms=PAUSE)
    if one is not None and crowd is not None:
        what = f"{READERS:,} readers of one stream of {EVENTS:,} events"
        ratio, grown = crowd["seconds"] / one["seconds"], crowd["grown"]
        longer = f"{ratio:.2f} ({crowd['seconds']:.2f} s, {one['seconds']:.2f} s)"
        figures.qualities.append(Quality(f"{what}: the task over that with one", longer, "1.2", ratio <= 1.2))
        figures.qualities.append(Quality(f"{what}: the core grows by", f"{grown:.1f} MiB", "50 MiB", grown <= 50))


def _median_trial(figures: Figures, plan: Plan, readers: int, events: int, pause_ms: float) -> dict[str, float] | None:
    found = [
        attempt(figures, f"{readers} readers of a stream", lambda: trials.streams(readers, events, pause_ms))
        for _ in range(plan.rounds)
    ]
    taken = [one for one in found if one is not None]
    return medians(taken) if taken else None


def nested(figures: Figures, plan: Plan) -> None:
    """What each service adds that a call passes."""
    found = _probed(figures, plan, "nested", "a chain of services")
    if found is not None:
        depths = [found[str(depth)] for depth in range(1, 6)]
        hops = [deeper - depth for depth, deeper in pairwise(depths)]
        added = (depths[-1] - depths[0]) / len(hops)
        all_of_them = " / ".join(f"{depth:.1f}" for depth in depths)
        _add(figures, found, "a nested hop adds", f"{added:.2f} ms ({all_of_them} ms, 1 to 5 deep)", "4 ms", added <= 4)
        ratio = sum(hops[2:]) / sum(hops[:2])
        _add(figures, found, "the last two hops of four over the first two", f"{ratio:.2f}", "1.25", ratio <= 1.25)


def cancel(figures: Figures, plan: Plan) -> None:
    """How soon coroutines hear that they are cancelled."""
    found = _probed(figures, plan, "cancel", "200 running tasks are cancelled")
    for way, words in (("alone", "one after another"), ("together", "all at once")):
        if found is not None:
            p50, p99 = found[f"{way} 50%"], found[f"{way} 99%"]
            what = f"cancel to coroutine, 200 running tasks, {words}: p99"
            _add(figures, found, what, f"{p99:.1f} ms (p50 {p50:.1f} ms)", "200 ms", p99 <= 200)


def journal(figures: Figures, plan: Plan) -> None:
    """What the journal adds to a step, and whether long runs stay as fast."""
    found = _probed(figures, plan, "journal", "journals of 100 steps")
    if found is not None:
        kept, plain = found["journal 100"], found["task 100"]
        added = (kept - plain) / 99  # the step that ends a run is in no journal
        runs = f"{kept:.0f} ms and {plain:.0f} ms for 100 steps"
        _add(figures, found, "a journaled step adds", f"{added:.2f} ms ({runs})", "1 ms", added <= 1)
        late, early = (kept - found["journal 10"]) / 90, (found["journal 10"] - found["journal 1"]) / 9
        ratio = late / early
        steps = f"{ratio:.2f} ({late:.2f} ms, {early:.2f} ms)"
        _add(figures, found, "steps 11 to 100 of a journal over steps 2 to 10", steps, "1.2", ratio <= 1.2)


def waiting(figures: Figures, plan: Plan) -> None:
    """What runs cost that wait for a person, and how soon they go on after a restart."""
    amount = plan.probes["waiting"]
    found = _probed(figures, plan, "waiting", f"{amount:,} runs wait for a person")
    if found is not None:
        grown = {role: held - found["idle"][role] for role, held in found["held"].items()}
        parts = ", ".join(f"{role} {size:.1f}" for role, size in grown.items())
        total = sum(grown.values())
        what = f"{amount:,} runs that wait for a person: core and worker grow by"
        _add(figures, found, what, f"{total:.1f} MiB ({parts})", "20 MiB", total <= 20)
        taken = f"{found['seconds']:.1f} s, after a start of {found['start']:.1f} s"
        _add(figures, found, "the same, answered after a restart: all have ended after", taken)


def resume(figures: Figures, plan: Plan) -> None:
    """How soon another worker goes on with what a killed one had."""
    found = _probed(figures, plan, "resume", "a worker is killed")
    if found is not None:
        seconds = found["median"]
        measured = f"{seconds:.2f} s (at most {max(found['each']):.2f} s of {len(found['each'])})"
        _add(figures, found, "kill of a worker to the same step on another", measured, "2 s", seconds <= 2)


#: What can be measured alone, by the name of its flag.
ALONE: Mapping[str, Callable[[Figures, Plan], None]] = {
    one.__name__: one for one in (streams, nested, cancel, journal, waiting, resume)
}


def _probed(figures: Figures, plan: Plan, name: str, what: str) -> Found | None:
    found = attempt(figures, what, lambda: trials.probe(name, plan.probes[name]))
    if found is not None:
        print(f"    others {found['others']:.0%}", flush=True)
    return found


def _add(figures: Figures, found: Found, what: str, measured: str, target: str = "", met: bool | None = None) -> None:
    figures.qualities.append(Quality(what, measured, target, met, found["others"]))
