"""What examples and documents run with: default ports that are free, and processes that end with the test."""

import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.examples.asking import QUICKSTART

PORTS = ("CONTROL_PLANE_PORT", "SIMPLE_MESSAGE_QUEUE_PORT")
END = 15  # seconds that a process gets to drain


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(autouse=True)
def own_ports(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Documents and examples name no ports, so each test gives the defaults a pair of its own."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    for name, port in ports.items():
        monkeypatch.setenv(name, str(port))
    return ports


@pytest.fixture(scope="session")
def quickstart() -> SimpleNamespace:
    """The modules of the quickstart, which import one another as the scripts that they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(QUICKSTART)
        names = ("words", "question", "folder", "passages", "search", "writer", "answer", "ask", "parts")
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Python process in the test's folder; each ends with the test, and its output is shown if that fails."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in reversed(started):
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        print(process.communicate(timeout=END)[0])
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
