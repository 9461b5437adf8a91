"""The quickstart as a process, and a harbour to ask it about."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"
COMMAND = [sys.executable, str(QUICKSTART / "run.py")]


def surroundings(**changes: str) -> dict[str, str]:
    """The environment without a model in it, then the changes."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")} | changes


def quickstart_run(
    *arguments: str | Path, said: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; ``said`` is its standard input, which is /dev/null if that is None."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env=surroundings(**environment),
        **({"stdin": subprocess.DEVNULL} if said is None else {"input": said}),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


def harbour(folder: Path) -> Path:
    """A folder that says when the ferry leaves, but not when it does in winter."""
    text = "# Harbour\n\nThe ferry leaves at nine every morning.\n\n## Kitchen\n\nThe cook bakes rye bread.\n"
    (folder / "harbour.md").write_text(f"{text}\n## Museum\n\nClocks are shown there.\n", encoding="utf-8")
    return folder


def started(output: str) -> dict[str, int]:
    """The processes that it told of, by their names."""
    line = re.search(r"^Started 4 processes: (.*)$", output, re.MULTILINE)[1]
    return {name: int(pid) for name, pid in re.findall(r"(\w+) \((\d+)\)", line)}


def assert_all_ended(output: str) -> None:
    processes = started(output)
    assert list(processes) == ["core", "search", "answer", "ask"]
    again = [int(pid) for pid in re.findall(r"is started again \((\d+)\)", output)]
    assert [pid for pid in [*processes.values(), *again] if runs(pid)] == []


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
