"""Ask the docs: starts a core and three services, asks them one question, and ends them."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import person
import report
from parts import PartEnded, Parts, parts_in

from arriero import ArrieroError, AsyncLlamaDeployClient, AsyncSessionClient, ControlPlaneConfig
from arriero.client import TaskEntry
from arriero.types.errors import UnknownService
from arriero.types.tasks import TaskStatus

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
QUESTION = "What happens to a task when its worker is killed?"
SERVICES = ("search", "answer", "ask")
HOST = "127.0.0.1"
LIMIT = 60.0  # seconds for the start and the question
#: Settings in the user's environment that are meant for other systems than this one.
FOREIGN = ("CONTROL_PLANE_", "SIMPLE_MESSAGE_QUEUE_", "SIMPLE_ORCHESTRATOR_", "WORKFLOW_SERVICE_", "LLAMA_DEPLOY_")


class NoAnswer(Exception):
    """Something broke. The message begins with a line that says what."""


def main() -> int:
    arguments = parser().parse_args()
    began = perf_counter()
    if sys.stdin is None:  # it was closed; this takes its number, so that nothing else gets it
        os.open(os.devnull, os.O_RDONLY)
    sys.stdout.reconfigure(errors="replace", line_buffering=True)
    logging.getLogger("arriero").setLevel(logging.ERROR)  # that it waits for what it has just started is no news
    try:
        asyncio.run(ask_the_docs(arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("quickstart: interrupted; its processes have ended", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (NoAnswer, PartEnded) as reason:
        print(f"quickstart: {reason}", file=sys.stderr)
        return 1
    print(f"\n{perf_counter() - began:.1f} s in all, with the start and the end of every process")
    return 0


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(prog="quickstart", description=__doc__)
    described.add_argument("question", nargs="?", default=QUESTION, type=text)
    described.add_argument("--folder", type=Path, default=DOCS, help="a folder of .md and .txt files (these docs)")
    described.add_argument("--yes", action="store_true", help="confirm what it asks, without asking you")
    described.add_argument("--keep", action="store_true", help="let it run on until Ctrl-C, to look around")
    return described


def text(argument: str) -> str:
    """What was typed, with a mark for what is not UTF-8."""
    return os.fsencode(argument).decode("utf-8", "replace")


async def ask_the_docs(arguments: argparse.Namespace) -> None:
    on_signals(asyncio.current_task().cancel)
    with tempfile.TemporaryDirectory(prefix="arriero-") as state:
        port, queue_port = free_ports(2)
        url = f"http://{HOST}:{port}"
        async with parts_in(Path(state), environment(port)) as parts:
            await start(parts, port, queue_port)
            report.started({part.name: part.process.pid for part in parts.started}, url)
            async with AsyncLlamaDeployClient(ControlPlaneConfig(host=HOST, port=port), timeout=LIMIT) as client:
                await parts.during(question(parts, client, arguments), report.again)
            if arguments.keep:
                report.look_around_in(url, {part.name: part.process.pid for part in parts.started}["answer"])
                await parts.during(told_to_end(), report.again)
            else:
                report.look_around()


def on_signals(do: Callable[[], object]) -> None:
    """Ctrl-C, `kill` and the closing of the terminal do this."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, do)


async def told_to_end() -> None:
    told = asyncio.Event()
    on_signals(told.set)
    await told.wait()


def free_ports(count: int) -> list[int]:
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def environment(port: int) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return own | {"CONTROL_PLANE_HOST": HOST, "CONTROL_PLANE_PORT": str(port)}


async def start(parts: Parts, port: int, queue_port: int) -> None:
    """All at once: whoever is early waits for the others."""
    state = f"sqlite:///{parts.folder / 'state.db'}"
    await parts.start("core", "core", "--port", str(port), "--queue-port", str(queue_port), "--state", state)
    for name in SERVICES:
        await parts.start(name, "worker", f"{HERE / name}.py:workflow", "--service", name)


async def question(parts: Parts, client: AsyncLlamaDeployClient, arguments: argparse.Namespace) -> None:
    try:
        async with asyncio.timeout(LIMIT) as limit:
            await Asking(await client.create_session(), arguments, limit).ask()
    except (ArrieroError, TimeoutError) as error:
        reason = str(error) or f"no answer within {LIMIT:.0f} s"
        raise NoAnswer(f"{reason}\n{parts.last_words()}") from error
    except TaskEnded as error:
        raise NoAnswer(str(error) if error.explains_itself else f"{error}\n{parts.last_words()}") from error


class TaskEnded(Exception):
    """The task ended without a result."""

    def __init__(self, entry: TaskEntry) -> None:
        super().__init__(entry.error.message if entry.error is not None else f"the task was {entry.status}")
        self.explains_itself = entry.error is not None and entry.error.type == "FolderError"


class Asking:
    """One question, from its submission to its answer; the limit does not count while the person thinks."""

    def __init__(self, session: AsyncSessionClient, arguments: argparse.Namespace, limit: asyncio.Timeout) -> None:
        self._session = session
        self._question = arguments.question
        self._folder = Path.cwd() / arguments.folder
        self._says_yes = arguments.yes
        self._limit = limit
        self._thought = 0.0  # seconds
        self._result: dict[str, Any] = {}

    async def ask(self) -> None:
        report.asked(self._question, self._folder)
        task_id = await submit(self._session, question=self._question, folder=str(self._folder))
        async for entry in self._session.follow(task_id):
            await self._hear(task_id, entry)
        task = await self._session.status(task_id)
        report.answer(self._result, self._folder)
        report.timings(**self._result["ms"], ask=1000 * (task.finished_at - task.created_at - self._thought))

    async def _hear(self, task_id: str, entry: TaskEntry) -> None:
        if entry.is_end and entry.status is not TaskStatus.COMPLETED:
            raise TaskEnded(entry)
        if entry.type == "Doubt":
            await self._confirm(task_id, entry.data)
        elif entry.type == "StopEvent" and not entry.path:
            self._result = entry.data["result"]
        else:
            report.heard(entry)

    async def _confirm(self, task_id: str, doubt: dict[str, Any]) -> None:
        """What the workflow asks goes to the person, and what the person says to the workflow."""
        from ask import Confirmation

        report.doubt(**doubt, folder=self._folder)
        began, now = perf_counter(), asyncio.get_running_loop().time
        self._limit.reschedule(None)
        yes = self._says_yes or await person.says_yes()
        self._thought += perf_counter() - began
        self._limit.reschedule(now() + LIMIT)
        report.said(yes, by_itself=self._says_yes)
        await self._session.send_event("ask", task_id, Confirmation(yes=yes))


async def submit(session: AsyncSessionClient, **arguments: str) -> str:
    """The core waits a while for a service that is being started; on a slow machine, once more."""
    try:
        return await session.run_nowait("ask", **arguments)
    except UnknownService:
        return await session.run_nowait("ask", **arguments)


if __name__ == "__main__":
    sys.exit(main())
