"""The scripts of the README, as they stand, in every order in which they may be started."""

import itertools
import re
from pathlib import Path

import pytest

from tests.examples.conftest import Start, free_ports

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "three_scripts"
NAMES = ("core", "worker", "client")


TOKEN = "scripts-7fk2m9qx4vt1"


@pytest.mark.parametrize("order", [pytest.param(order, id="-".join(order)) for order in itertools.permutations(NAMES)])
def test_the_three_scripts_run_in_any_order(start: Start, tmp_path: Path, order: tuple[str, ...]) -> None:
    assert result_of(start, tmp_path, order) == "hello_world_result"


@pytest.mark.parametrize(
    "environment",
    [{"ARRIERO_TOKENS": f"deploy:{TOKEN}", "ARRIERO_TOKEN": TOKEN}, {"CONTROL_PLANE_REQUIRE_TOKEN": "true"}],
    ids=["tokens", "local token"],
)
@pytest.mark.parametrize("order", [("core", "worker", "client"), ("client", "worker", "core")], ids="-".join)
def test_the_three_scripts_run_as_they_are_with_tokens_in_the_environment(
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert result_of(start, tmp_path, order) == "hello_world_result"
    assert (tmp_path / ".arriero" / "token").stat().st_mode & 0o777 == 0o600


def result_of(start: Start, tmp_path: Path, order: tuple[str, ...]) -> str:
    """The last line of the client; before it, standard error may say for what it waits on a slow machine."""
    [port] = free_ports(1)
    for name in NAMES:
        text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
        (tmp_path / f"{name}.py").write_text(text.replace("8002", str(port)), encoding="utf-8")
    processes = {name: start(f"{name}.py") for name in order}
    output, _ = processes["client"].communicate(timeout=50)
    assert processes["client"].returncode == 0, output
    return output.splitlines()[-1]


def test_the_readme_shows_the_three_scripts_as_they_are() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks == [(SCRIPTS / f"{name}.py").read_text(encoding="utf-8") for name in NAMES]
