"""What keeps a part from starting is told in one line, with exit code 1, and nothing else was begun."""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.harness import Core, Worker, free_port

#: Seconds within which a part that cannot start has said so.
PROMPT = 10.0


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


class NoCore(Core):
    """A core that does not get ready."""

    async def ready(self) -> None:
        """Its end is waited for."""


class NoWorker(Worker):
    """A worker that does not get ready."""

    async def ready(self) -> None:
        """Its end is waited for."""


async def refusal(part: NoCore | NoWorker) -> str:
    """The one line that a part leaves, without its log, when it does not start."""
    async with part:
        code = await part.ended(PROMPT)
        lines = [line for line in part.log.splitlines() if not re.match(r"\d{4}-\d\d-\d\d ", line)]
        assert (code, len(lines)) == (1, 1), part.log
        assert "Traceback" not in part.log
        return lines[0]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("which", ["port", "queue_port"])
async def test_a_port_that_is_taken_is_named_and_nothing_else_starts(which: str, taken: int, tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    ports = {"port": free_port(), "queue_port": free_port(), which: taken}
    core = NoCore(state=f"sqlite:///{database}", port=ports["port"], queue_port=ports["queue_port"])
    line = await refusal(core)
    assert line == f"Error: Another process listens on 127.0.0.1:{taken}. End it, or choose another port."
    assert not database.exists()
    assert all(is_free(port) for port in ports.values() if port != taken)


async def test_a_second_core_on_the_same_database_is_told_whose_it_is() -> None:
    async with Core() as first:
        second = NoCore(state=first.state)
        line = await refusal(second)
        path = first.state.removeprefix("sqlite:///")
        assert line.startswith("Error: ")
        assert path in line
        assert f"process {first.pid}" in line
        assert is_free(second.port)
        assert await first.client().list_sessions() == []


@pytest.mark.parametrize("host", ["::", ""])
async def test_an_address_that_others_could_reach_is_refused(host: str) -> None:
    line = await refusal(NoCore("--host", host))
    assert "Refused to listen" in line
    assert "127.0.0.1" in line


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mongodb://x/y", "state_store_uri"),
        ("sqlite://", "sqlite:///"),
        ("sqlite:////proc/nowhere/state.db", "/proc/nowhere"),
        ("sqlite:////dev/null", "/dev/null"),
    ],
)
async def test_a_state_store_that_cannot_be_is_named(uri: str, words: str) -> None:
    core = NoCore(state="memory:")
    core.arguments[core.arguments.index("memory:")] = uri
    assert words in await refusal(core)


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    async with Core(state=f"sqlite:///{tmp_path}/state.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.execute("PRAGMA user_version = 99")
    line = await refusal(NoCore(state=f"sqlite:///{tmp_path}/state.db"))
    assert "newer version of Arriero" in line
    assert "99" in line


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.execute("CREATE TABLE mine (x)")
    line = await refusal(NoCore(state=f"sqlite:///{tmp_path}/state.db"))
    assert "another program" in line
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


@pytest.mark.parametrize(
    "content", [b"this is no database at all, whatever its name says" * 100, b"SQLite format 3\0" * 300]
)
async def test_a_file_that_is_no_database_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    line = await refusal(NoCore(state=f"sqlite:///{path}"))
    assert str(path) in line
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "value"),
    [("CONTROL_PLANE_LEASE", "-1"), ("SIMPLE_MESSAGE_QUEUE_MAX_MESSAGE", "many")],
)
async def test_a_setting_that_is_wrong_is_named(name: str, value: str) -> None:
    assert name.rpartition("_")[2].lower() in (await refusal(NoCore(env={name: value}))).lower()


async def test_a_worker_on_a_port_that_is_taken_names_it(core: Core, taken: int) -> None:
    worker = NoWorker("builtins:print", "--service", "x", core=core)
    worker.arguments[worker.arguments.index("--port") + 1] = str(taken)
    assert f"127.0.0.1:{taken}" in await refusal(worker)


@pytest.mark.parametrize("name", ["a/b", "x" * 200, "control_plane"])
async def test_a_worker_for_a_service_that_cannot_be_is_told_so(core: Core, name: str) -> None:
    assert "service_name" in await refusal(NoWorker("builtins:print", "--service", name, core=core))
