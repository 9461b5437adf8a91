"""The tutorial, done as it says."""

import re
from pathlib import Path

from tests.examples.conftest import Start

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")


def told_output(command: str) -> str:
    return re.search(rf"```console\n\$ {re.escape(command)}\n(.*?)```", TUTORIAL, re.DOTALL)[1]


def commands() -> list[list[str]]:
    return [line.split() for line in re.findall(r"^\$ python (-m arriero .*)$", TUTORIAL, re.MULTILINE)]


def test_the_tutorial_gives_what_it_says(start: Start, tmp_path: Path) -> None:
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TUTORIAL, re.DOTALL):
        (tmp_path / name).write_text(code, encoding="utf-8")
    for command in commands():
        start(*command)
    output, _ = start("client.py").communicate(timeout=50)
    assert output.endswith(told_output("python client.py"))  # it may have said before that it waits
    assert len(commands()) == 2
