"""What the quickstart prints."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

BEGAN = perf_counter()
RULE = "-" * 72


def started(processes: dict[str, int], url: str) -> None:
    listed = ", ".join(f"{name} ({pid})" for name, pid in processes.items())
    print(f"Started {len(processes)} processes: {listed}")
    print(f"The control plane answers at {url}")


def asked(question: str, folder: Path) -> None:
    print(f"Asking the files in {shown(folder)}: {printable(shorten(question))}\n")


def progress(event: dict[str, Any]) -> None:
    print(f"{perf_counter() - BEGAN:6.2f} s  {event['service']:<7} {event['did']}")


def answer(found: dict[str, Any], folder: Path) -> None:
    passage = found["passage"]
    print()
    if found["answered"]:
        print(f"{place(passage, folder)} says:\n{RULE}\n{printable(passage['text'])}\n{RULE}")
    elif not found["files"]:
        print(f"There are no .md or .txt files in {shown(folder)}.")
    else:
        print(f"The files in {shown(folder)} do not answer this question.")
        if passage is not None:
            print(f"The nearest passage, {place(passage, folder)} covers {found['evidence']:.0%} of it.")
    if found["skipped"]:
        print(f"Not read: {listed(found['skipped'])}")


def timings(search: float, answer: float, ask: float) -> None:
    print(
        f"\nsearch {search:.1f} ms, answer {answer:.1f} ms, ask {ask:.1f} ms with both of them and its waits for them"
    )


def look_around() -> None:
    print("\nLook around next:")
    print("  make quickstart ARGS='\"How long is a lease?\"'           another question")
    print("  make quickstart ARGS='--folder ~/notes \"Which ...?\"'    other files, .md or .txt")
    print("  make quickstart ARGS=--keep                             the same, and it runs on to be looked at")


def look_around_in(url: str) -> None:
    print("\nIt runs on until Ctrl-C. Look around:")
    print(f"  curl {url}/services    who works here")
    print(f"  curl {url}/sessions    what was asked, and what each service was asked for it")
    print(f"  {url}/docs             every route, to try in a browser")


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
