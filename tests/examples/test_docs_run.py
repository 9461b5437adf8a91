"""Every Python block of the README and of docs/ runs as it stands, each in a process of its own.

A block that cannot run alone says why, on the line before its fence: ``<!-- not run: it needs a key -->``.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"""
    (?P<note> <!--[ ]not[ ]run: (?P<reason>.*?) --> \s*\n\s* )?
    ^[ \t]* ```(?:python|py)\b [^\n`]* \n
    (?P<code> .*?)
    ^[ \t]* ``` [ \t]*$
    """,
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """Python code in a document; ``reason`` is why it is not run, or None."""

    document: str
    line: int
    code: str
    reason: str | None


def blocks_of(document: str, text: str) -> list[Block]:
    blocks = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        reason = match["reason"].strip() if match["note"] else None
        blocks.append(Block(document, line, dedent(match["code"]), reason))
    return blocks


def documented() -> list[Block]:
    paths = [path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if path.is_file()]
    return [
        block
        for path in paths
        for block in blocks_of(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]


BLOCKS = documented()


@pytest.mark.parametrize("block", [pytest.param(b, id=f"{b.document}:{b.line}") for b in BLOCKS if b.reason is None])
def test_a_documented_block_runs(block: Block, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(block.code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, script],
        check=False,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, f"{block.document}:{block.line}\n{run.stdout}\n{run.stderr}"


def test_a_block_that_is_not_run_says_why() -> None:
    assert [f"{block.document}:{block.line}" for block in BLOCKS if block.reason == ""] == []


def test_blocks_are_found_with_their_lines_and_reasons() -> None:
    text = (
        "# Title\n```python\nx = 1\n```\n\n- item:\n  ```py\n  y = 2\n  ```\n"
        "```console\n$ not python\n```\n<!-- not run: it needs a key -->\n```python\nz = 3\n```\n"
        "<!-- not run: -->\n\n```python\nw = 4\n```\n"
    )
    assert blocks_of("README.md", text) == [
        Block("README.md", 3, "x = 1\n", None),
        Block("README.md", 8, "y = 2\n", None),
        Block("README.md", 15, "z = 3\n", "it needs a key"),
        Block("README.md", 20, "w = 4\n", ""),
    ]
