"""What the quickstart prints."""

import json
import os
import shlex
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import person

if TYPE_CHECKING:
    from parts import Part

    from arriero.client import TaskEntry

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGAN = perf_counter()
RULE = "-" * 72


def started(processes: dict[str, int], url: str) -> None:
    listed = ", ".join(f"{name} ({pid})" for name, pid in processes.items())
    print(f"Started {len(processes)} processes: {listed}")
    print(f"The control plane answers at {url}")


def asked(question: str, folder: Path) -> None:
    print(f"Asking the files in {shown(folder)}: {printable(shorten(question))}\n")


def heard(entry: "TaskEntry") -> None:
    """What a service tells, under the path by which it was called."""
    where = "/".join(["ask", entry.path] if entry.path else ["ask"])
    if entry.type == "Progress":
        line(where, entry.data["did"])
    elif entry.kind == "restarted":
        line(where, "lost its worker; the next one goes on")
    elif entry.last and entry.path:
        line(where, "is done")


def line(where: str, text: str) -> None:
    print(f"{perf_counter() - BEGAN:6.2f} s  {where:<10} {printable(text)}")


def again(killed: "Part", started: "Part") -> None:
    line(killed.name, f"was killed ({killed.process.pid}) and is started again ({started.process.pid})")


def doubt(passage: dict[str, Any], evidence: float, folder: Path, **_: Any) -> None:
    print(f"\n{quoted(passage, folder)}")
    print(f"That covers {evidence:.0%} of the question. Is it an answer? [y/N] ", end="", flush=True)


def said(yes: bool, *, by_itself: bool) -> None:
    if by_itself or not os.isatty(person.STDIN):  # a terminal shows what is typed
        print(f"{'yes' if yes else 'no'}{' (--yes)' if by_itself else ''}")


def answer(found: dict[str, Any], folder: Path) -> None:
    print()
    if found["answered"] or found.get("confirmed"):
        print(given(found, folder))
    elif not found["files"]:
        print(f"There are no .md or .txt files in {shown(folder)}.")
    else:
        print(f"The files in {shown(folder)} do not answer this question.")
        if found["passage"] is not None:
            print(f"The nearest passage, {place(found['passage'], folder)} covers {found['evidence']:.0%} of it.")
    if "note" in found:
        print(printable(found["note"]))
    if found["skipped"]:
        print(f"Not read: {listed(found['skipped'])}")


def given(found: dict[str, Any], folder: Path) -> str:
    words = (
        f"{printable(found['written'])}\n(written by {printable(found['writer'])})\n\n" if "written" in found else ""
    )
    taken = "\nYou took this for the answer." if found.get("confirmed") else ""
    return words + quoted(found["passage"], folder) + taken


def quoted(passage: dict[str, Any], folder: Path) -> str:
    return f"{place(passage, folder)} says:\n{RULE}\n{printable(passage['text'])}\n{RULE}"


def timings(search: float, answer: float, ask: float) -> None:
    print(
        f"\nsearch {search:.1f} ms, answer {answer:.1f} ms, ask {ask:.1f} ms with both of them and its waits for them"
    )


def look_around() -> None:
    python, here = shown(Path(sys.executable)), shown(Path(__file__).parent)
    print("\nLook around next:")
    print("  make quickstart ARGS='\"How long is a lease?\"'           another question")
    print("  make quickstart ARGS='--folder ~/notes \"Which ...?\"'    other files, .md or .txt")
    print("  make quickstart ARGS=--keep                             the same, and it runs on to be looked at")
    print("The same by hand, each in a terminal of its own:")
    print(f"  {python} -m arriero core")
    for name in ("search", "answer", "ask"):
        print(f"  {python} -m arriero worker {here}/{name}.py:workflow --service {name}")
    print("Then ask:")
    asking("http://127.0.0.1:8000")


def look_around_in(url: str, answer: int) -> None:
    print("\nIt runs on until Ctrl-C. Look around:")
    print(f"  curl {url}/services    who works here")
    print(f"  curl {url}/sessions    what was asked")
    print(f"  curl {url}/sessions/SESSION/tasks/TASK/events    all that was said of one of them")
    print(f"  {url}/docs             every route, to try in a browser")
    print("Ask again, and kill a service meanwhile:")
    asking(url)
    print(f"  kill -9 {answer}    it is started again, and what it had at hand is done")


def asking(url: str) -> None:
    question = json.dumps({"question": "How long is a lease?", "folder": str(DOCS)})
    task = json.dumps({"service_id": "ask", "input": question})
    print(f'  curl -X POST {url}/sessions/create -d \'{{"session_id": "mine"}}\'')
    print(f"  curl -X POST '{url}/sessions/mine/tasks?wait=30' -d {shlex.quote(task)}")


def place(passage: dict[str, Any], folder: Path) -> str:
    first, last = passage["first_line"], passage["last_line"]
    lines = f"line {first}" if first == last else f"lines {first}-{last}"
    return f"{shown(folder / passage['file'])}, {lines},"


def listed(skipped: dict[str, str], most: int = 5) -> str:
    shown_ones = [f"{printable(name)} ({reason})" for name, reason in list(skipped.items())[:most]]
    return ", ".join(shown_ones) + (f" and {len(skipped) - most} more" if len(skipped) > most else "")


def shown(path: Path) -> str:
    """The path as one would type it from here."""
    near = os.path.relpath(path)
    return printable(str(path) if near.startswith("..") else near)


def shorten(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[:most] + "..."


def printable(text: str) -> str:
    """The text without what a terminal would take for orders."""
    return "".join(_printable(text.replace("\r\n", "\n")))


def _printable(text: str) -> Iterable[str]:
    for char in text:
        is_order = unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"
        yield "\N{REPLACEMENT CHARACTER}" if is_order else char
