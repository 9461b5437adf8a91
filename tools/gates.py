"""The gates that no linter has: the length of modules and functions, a reason beside every suppression, and a test for
every promise.

``python -m tools.gates`` prints what breaks them, one line each, and ends with status 1 if anything does.
"""

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tools import guarantees

FOLDERS = ("src", "tests", "tools", "examples", "benchmarks")
MODULE_LINES = 600
FUNCTION_LINES = 60

# What may be longer, and why: "path" or "path::function" to a reason.
EXCEPTIONS: dict[str, str] = {}

SUPPRESSION = re.compile(r"#\s*(type: ignore(\[[^\]]*\])?|noqa(: *[A-Z]+\d+([, ]+[A-Z]+\d+)*)?)")


def main() -> int:
    broken = [line for path in modules() for line in broken_gates(path, path.as_posix())]
    broken += guarantees.broken()
    print(*broken, sep="\n", end="\n" if broken else "")
    return 1 if broken else 0


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted(Path(folder).rglob("*.py"))


def broken_gates(path: Path, name: str) -> Iterator[str]:
    source = path.read_text(encoding="utf-8")
    yield from long_modules(source, name)
    yield from long_functions(source, name)
    yield from bare_suppressions(path, name)


def long_modules(source: str, name: str) -> Iterator[str]:
    lines = len(source.splitlines())
    if lines > MODULE_LINES and name not in EXCEPTIONS:
        yield f"{name}:1: {lines} lines, more than {MODULE_LINES}: split it along a noun"


def long_functions(source: str, name: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or f"{name}::{node.name}" in EXCEPTIONS:
            continue
        lines = span(node) - docstring_lines(node)
        if lines > FUNCTION_LINES:
            yield f"{name}:{node.lineno}: {node.name}() has {lines} lines, more than {FUNCTION_LINES}"


def docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return span(function.body[0]) if ast.get_docstring(function, clean=False) is not None else 0


def span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def bare_suppressions(path: Path, name: str) -> Iterator[str]:
    with path.open("rb") as file:
        comments = [token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    for comment in comments:
        reason, suppressions = SUPPRESSION.subn("", comment.string)
        if suppressions and not re.search(r"\w{2}", reason):
            yield f"{name}:{comment.start[0]}: no reason beside {comment.string!r}"


if __name__ == "__main__":
    sys.exit(main())
