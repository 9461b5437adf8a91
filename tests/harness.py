"""The parts of the system as processes of their own, for tests: ready once entered, ended by pid when left.

    async with Core() as core, Worker("flows.py:Greeting", service="greeting", core=core):
        session = await core.client().create_session()
        assert await session.run("greeting", name="Ada") == "hello Ada"

Nothing here sleeps or looks at intervals of its own: readiness is asked for through the client, which waits for what is
not there yet, and fails at once with the log when the process ends instead. A process belongs to no event loop, so one
may be entered by a fixture of a module and used by each of its tests.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from arriero import AsyncLlamaDeployClient, ControlPlaneConfig
from arriero.client import ClientSettings
from arriero.client.caller import AsyncCaller
from arriero.client.requests import Request

#: Seconds within which a process is ready, and within which it ends when asked to.
PATIENCE = 20.0
#: Settings of the caller's own that must not reach the parts under test.
PREFIXES = (
    "CONTROL_PLANE_",
    "SIMPLE_MESSAGE_QUEUE_",
    "SIMPLE_ORCHESTRATOR_",
    "WORKFLOW_SERVICE_",
    "LLAMA_DEPLOY_",
    "ARRIERO_",
)
# Below the ports that systems give to outgoing connections: one that is free now is still free when it is bound.
_PORTS = range(10_000, 32_000)
_chance = random.SystemRandom()


def free_port() -> int:
    """A port on which nobody listens."""
    while True:
        port = _chance.choice(_PORTS)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def environment(**changes: str) -> dict[str, str]:
    """The environment of a part: the caller's without settings of ours, then the changes."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    return own | {"PYTHONUNBUFFERED": "1"} | changes


def settings_with(token: str | None) -> ClientSettings | None:
    """The settings of a client that sends this token; None for one that sends none."""
    return None if token is None else ClientSettings(token=SecretStr(token))


async def answers(url: str, within: float = PATIENCE, path: str = "/ready", token: str | None = None) -> None:
    """Wait until ``/ready`` there says yes. Errors: ``ControlPlaneUnavailable`` when it does not in time."""
    caller = AsyncCaller(url, within, settings_with(token))
    try:
        await caller.call(Request("GET", path, bytes))
    finally:
        await caller.aclose()


class Process:
    """A Python process; what it writes goes to ``log``, standard output and error together.

    Entered, it has been started (a part of the system: and is ready). Left, it gets SIGTERM; one that does not end
    within ``PATIENCE`` seconds is killed, and the test fails.
    """

    def __init__(self, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: str | Path | None = None):
        self.arguments = [str(argument) for argument in arguments]
        self._env = dict(env or {})
        self._folder = tempfile.TemporaryDirectory(prefix="arriero-")
        self.folder = Path(self._folder.name)
        self._cwd = Path(cwd) if cwd is not None else self.folder
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._exit: Future[int] = Future()
        #: What the test itself sends to the part.
        self.token = self._env.get("ARRIERO_TOKEN")

    @property
    def pid(self) -> int:
        """The process id of the newest start."""
        assert self._process is not None, "the process was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and not self._exit.done()

    @property
    def log(self) -> str:
        """What all starts have written so far."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        assert not self.running, "the process runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self.arguments],
                cwd=self._cwd,
                env=environment(**self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._exit = Future()
        self._exit.set_running_or_notify_cancel()  # nobody who stops waiting for it takes it from the others
        threading.Thread(target=_tell, args=(self._process, self._exit), daemon=True).start()

    async def ready(self) -> None:
        """Wait until the part serves; fails at once when its process ends."""

    async def ended(self, within: float = PATIENCE) -> int:
        """Wait until the process has ended; gives its exit code, negative for a signal."""
        async with asyncio.timeout(within):
            return await asyncio.wrap_future(self._exit)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self.running:
            self.signal(signal.SIGKILL)
        await self.ended()

    async def interrupt(self, within: float = PATIENCE) -> int:
        """SIGINT, as Ctrl-C does; gives the exit code."""
        self.signal(signal.SIGINT)
        return await self.ended(within)

    async def terminate(self, within: float = PATIENCE) -> int:
        """SIGTERM; gives the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(within)

    def pause(self) -> None:
        """SIGSTOP: the process stays as it is until it goes on."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Kill it if it runs, start it again with the same arguments and files, and wait until it is ready."""
        await self.kill()
        self.start()
        await self.ready()

    async def __aenter__(self) -> Self:
        try:
            self.start()
            await self.ready()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """What leaving does, for a process that was started without being entered."""
        try:
            if self.running:
                self.go_on()
                await self.terminate()
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"{self} did not end within {PATIENCE:g} s of SIGTERM:\n{self.log}") from None
        finally:
            print(f"--- {self}\n{self.log}")  # pytest shows it if the test fails
            self._folder.cleanup()

    async def _answers(self, url: str) -> None:
        """Wait for ``/ready`` there, or fail with the log if the process ends first."""
        asking = asyncio.ensure_future(answers(url, token=self.token))
        ended = asyncio.wrap_future(self._exit)
        try:
            await asyncio.wait({asking, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise AssertionError(f"{self} ended with {ended.result()} instead of getting ready:\n{self.log}")
            await asking
        finally:
            asking.cancel()
            ended.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def __str__(self) -> str:
        return " ".join(["python", *self.arguments])


class Core(Process):
    """``python -m arriero core``: control plane and simple queue, with a database of its own unless ``state`` is given.

    ``env`` are environment variables, such as ``{"CONTROL_PLANE_LEASE": "1"}``; ``extra`` more arguments.
    """

    def __init__(
        self,
        *extra: str,
        port: int | None = None,
        queue_port: int | None = None,
        state: str | None = None,
        env: Mapping[str, str] | None = None,
    ):
        super().__init__(env=env)
        self.port = port or free_port()
        self.queue_port = queue_port or free_port()
        self.state = state or f"sqlite:///{self.folder}/state.db"
        self.url = f"http://127.0.0.1:{self.port}"
        ports = ["--port", str(self.port), "--queue-port", str(self.queue_port)]
        self.arguments = ["-m", "arriero", "core", *ports, "--state", self.state, *extra]

    @property
    def config(self) -> ControlPlaneConfig:
        """What clients and workers of this core are given."""
        return ControlPlaneConfig(host="127.0.0.1", port=self.port)

    def client(self, timeout: float | None = PATIENCE) -> AsyncLlamaDeployClient:
        """A client of this core."""
        return AsyncLlamaDeployClient(self.config, timeout=timeout, settings=settings_with(self.token))

    async def ready(self) -> None:
        await self._answers(self.url)


class Worker(Process):
    """``python -m arriero worker TARGET``: a service of ``core``, ready when its link to it is up.

    ``target`` is ``module:object`` or ``path.py:object``, a relative path being relative to ``cwd``.
    """

    def __init__(
        self,
        target: str,
        *extra: str,
        core: Core | None = None,
        service: str | None = None,
        concurrency: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ):
        super().__init__(env=env, cwd=cwd)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.service = service
        options: dict[str, Any] = {"--port": self.port, "--service": service, "--concurrency": concurrency}
        options["--control-plane"] = core.url if core is not None else None
        given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        self.arguments = ["-m", "arriero", "worker", target, *given, *extra]

    async def ready(self) -> None:
        await self._answers(self.url)


def _tell(process: subprocess.Popen[bytes], exit_code: Future[int]) -> None:
    exit_code.set_result(process.wait())
