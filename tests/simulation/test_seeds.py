"""Simulated histories: those that once broke a promise, and as many others as there is time for.

``SIMULATED=10000 python -m pytest tests/simulation`` runs more of them; a seed that fails is put into the list.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arriero.core.holds import Holds
from arriero.core.lanes import Lanes
from arriero.runtime.runner import WorkflowRunner
from arriero.testing.simulation import simulate

#: What each of these found: journals and events written twice, and claims, children and submissions forgotten, after a
#: commit that failed and had taken effect; a claim that met the end of its task; an answer that came while the run was
#: about to be left; an event that crossed the loss of its worker; items that a worker gave back while the store was
#: away; an answer that came so late that the next step was another worker's; an item that was granted twice by commits
#: of which only the first took effect; an event that came between a claim and its answer; a slot that became
#: free together with a cancellation.
FOUND = (
    0,
    2,
    5,
    8,
    30,
    180,
    224,
    330,
    635,
    2195,
    3184,
    3262,
    428,
    3815,
    3833,
    5136,
    10_806,
    10_820,
    13_901,
    14_264,
    17_944,
    18_636,
)
MANY = int(os.environ.get("SIMULATED", "300"))
AT_ONCE = 100
FIRST = 10_000
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", FOUND)
def test_a_history_that_once_broke_a_promise_breaks_none(seed: int) -> None:
    history = simulate(seed)
    assert not history.anomalies, str(history)
    assert history.tasks > 0


@pytest.mark.shows("ring.hint", "down.everything")
@pytest.mark.parametrize("first", range(FIRST, FIRST + MANY, AT_ONCE))
def test_no_history_breaks_a_promise(first: int) -> None:
    histories = [simulate(seed) for seed in range(first, min(first + AT_ONCE, FIRST + MANY))]
    assert [str(history) for history in histories if history.anomalies] == []
    assert sum(history.kills for history in histories) > len(histories)


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    script = "from arriero.testing.simulation import simulate; print(*(simulate(seed).digest for seed in range(20)))"
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], env=env | {"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        )
        for hash_seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(set(runs[0].stdout.split())) == 20


def broken(seeds: range) -> list[str]:
    return [anomaly for seed in seeds for anomaly in simulate(seed).anomalies]


Break = Callable[[pytest.MonkeyPatch], None]


def let_old_claims_write(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holds, "checked", lambda self, item, item_id, token: item)


def forget_the_order(patch: pytest.MonkeyPatch) -> None:
    async def enter(self: Lanes, change: object, item: object) -> bool:
        return True

    patch.setattr(Lanes, "enter", enter)


def begin_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WorkflowRunner, "read_past", lambda self, grant: None)


@pytest.mark.parametrize("fault", [let_old_claims_write, forget_the_order, begin_anew])
def test_a_system_that_is_broken_is_found_out(fault: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    assert broken(range(40))
