"""The constraints name a version for everything that the project asks for, and nothing about where to get it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    return {canonical(NAME.match(requirement)[0]) for requirement in wanted} - {"arriero"}


def test_a_line_is_a_name_and_a_version_and_nothing_else() -> None:
    assert [line for line in pins() if not re.fullmatch(NAME.pattern + r"==[0-9][0-9A-Za-z.]*", line)] == []


def test_everything_that_is_asked_for_has_one_pin() -> None:
    names = [canonical(line.partition("==")[0]) for line in pins()]
    assert required() <= set(names)
    assert len(names) == len(set(names))
