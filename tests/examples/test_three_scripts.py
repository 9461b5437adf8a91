"""The scripts of the README, as they stand, in every order in which they may be started."""

import itertools
import re
from pathlib import Path

import pytest

from tests.examples.conftest import Start, free_ports

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "three_scripts"
NAMES = ("core", "worker", "client")


@pytest.mark.parametrize("order", [pytest.param(order, id="-".join(order)) for order in itertools.permutations(NAMES)])
def test_the_three_scripts_run_in_any_order(start: Start, tmp_path: Path, order: tuple[str, ...]) -> None:
    [port] = free_ports(1)
    for name in NAMES:
        text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
        (tmp_path / f"{name}.py").write_text(text.replace("8002", str(port)), encoding="utf-8")
    processes = {name: start(f"{name}.py") for name in order}
    output, _ = processes["client"].communicate(timeout=50)
    assert processes["client"].returncode == 0
    assert output.endswith("hello_world_result\n")  # it may have said before that it waits


def test_the_readme_shows_the_three_scripts_as_they_are() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks == [(SCRIPTS / f"{name}.py").read_text(encoding="utf-8") for name in NAMES]
