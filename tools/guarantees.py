"""The tables of docs/explanation/guarantees.md: every promise with the tests that show it.

The promises stand in ``promises.toml``, and a test names those that it shows: ``@pytest.mark.shows("claim.once")``. A
class that runs a contract names the test that it inherits: ``@pytest.mark.shows("log.order", by="test_...")``.
``python -m tools.guarantees`` writes the tables; :mod:`tools.gates` says when they are out of date, when a promise has
no test, and when a test is marked that may be skipped.
"""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = "docs/explanation/guarantees.md"
PROMISES = "tools/promises.toml"
BEGIN, END = "<!-- promises: begin; made by `python -m tools.guarantees` -->", "<!-- promises: end -->"
MARK = "shows"
SKIPS = {"skip", "skipif", "xfail", "importorskip"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Shown:
    """A test that shows a promise: where it is marked, and where it stands."""

    promise: str
    marked: str
    path: str
    test: str


def main() -> int:
    page = ROOT / PAGE
    page.write_text(with_tables(page.read_text(encoding="utf-8"), sections(), shown_in(ROOT)), encoding="utf-8")
    return 0


def sections(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """The sentences by id, by heading, in order."""
    return tomllib.loads((root / PROMISES).read_text(encoding="utf-8"))


def promises(root: Path = ROOT) -> dict[str, str]:
    """The sentences by id."""
    return {name: sentence for section in sections(root).values() for name, sentence in section.items()}


def broken(root: Path = ROOT) -> Iterator[str]:
    """What keeps the page from being true, a line each."""
    try:
        shown = shown_in(root)
    except Mistaken as mistake:
        yield str(mistake)
        return
    known = promises(root)
    for each in shown:
        if each.promise not in known:
            yield f"{each.marked}: {each.test} shows {each.promise!r}, which is no promise of {PROMISES}"
    for name in sorted(known.keys() - {each.promise for each in shown}):
        yield f"{PROMISES}: no test shows {name!r}"
    page = (root / PAGE).read_text(encoding="utf-8")
    if page != with_tables(page, sections(root), shown):
        yield f"{PAGE} is out of date: run python -m tools.guarantees"


def with_tables(page: str, told: dict[str, dict[str, str]], shown: Iterable[Shown]) -> str:
    """The page with what stands between its markers made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return "\n".join([head + BEGIN, *tables(told, sorted(shown)), END + tail])


def tables(told: dict[str, dict[str, str]], shown: list[Shown]) -> Iterator[str]:
    for heading, sentences in told.items():
        yield from ["", f"### {heading}", "", "| promise | shown by |", "|---|---|"]
        for name, sentence in sentences.items():
            links = [link(each) for each in shown if each.promise == name]
            yield f"| {sentence} | {'<br>'.join(dict.fromkeys(links))} |"
    yield ""


def link(shown: Shown) -> str:
    words = shown.test.removeprefix("test_").replace("_", " ")
    return f"[{words}](../../{shown.path})"


class Mistaken(Exception):
    """A mark that says what cannot be."""


def shown_in(root: Path) -> list[Shown]:
    """What the tests of that folder show, in their order."""
    found: list[Shown] = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if f"mark.{MARK}(" in source:
            found += marks_of(root, path.relative_to(root).as_posix(), ast.parse(source))
    return found


def marks_of(root: Path, path: str, module: ast.Module) -> Iterator[Shown]:
    for node in module.body:
        if isinstance(node, Function):
            yield from marks_of_test(path, node)
        if isinstance(node, ast.ClassDef):
            for name, by in marks(path, node):
                yield inherited(root, path, module, node, name, by)
            for test in node.body:
                if isinstance(test, Function):
                    yield from marks_of_test(path, test)


def marks_of_test(path: str, test: Function) -> Iterator[Shown]:
    for name, by in marks(path, test):
        if by or not test.name.startswith("test_"):
            raise Mistaken(f"{path}:{test.lineno}: {test.name} is no test, or names another in `by`")
        yield Shown(name, f"{path}:{test.lineno}", path, test.name)
        refuse_skips(path, test)


def marks(path: str, node: Function | ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The promises that its decorators name, each with what stands in ``by``."""
    for mark in node.decorator_list:
        if not isinstance(mark, ast.Call) or ast.unparse(mark.func) != f"pytest.mark.{MARK}":
            continue
        by = "".join(str(text(path, keyword.value)) for keyword in mark.keywords)
        if isinstance(node, ast.ClassDef) and not by:
            raise Mistaken(f"{path}:{node.lineno}: {node.name} does not say by which test")
        for name in mark.args:
            yield text(path, name), by


def text(path: str, node: ast.expr) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise Mistaken(f"{path}:{node.lineno}: what a test shows is written as plain text")
    return node.value


def inherited(root: Path, path: str, module: ast.Module, node: ast.ClassDef, name: str, by: str) -> Shown:
    """The test of that name in the contract that the class runs."""
    bases = {ast.unparse(base) for base in node.bases}
    for line in module.body:
        if isinstance(line, ast.ImportFrom) and bases & {alias.name for alias in line.names}:
            contract = f"src/{(line.module or '').replace('.', '/')}.py"
            for test in ast.walk(ast.parse((root / contract).read_text(encoding="utf-8"))):
                if isinstance(test, Function) and test.name == by:
                    refuse_skips(contract, test)
                    return Shown(name, f"{path}:{node.lineno}", contract, by)
    raise Mistaken(f"{path}:{node.lineno}: {node.name} has no {by} from a contract that it imports")


def refuse_skips(path: str, test: Function) -> None:
    """A test that is not always run shows nothing."""
    for node in ast.walk(test):
        if isinstance(node, ast.Attribute) and node.attr in SKIPS and ast.unparse(node).startswith("pytest."):
            raise Mistaken(f"{path}:{node.lineno}: {test.name} shows a promise and may be skipped")


if __name__ == "__main__":
    sys.exit(main())
