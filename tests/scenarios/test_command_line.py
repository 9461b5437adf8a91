"""``python -m arriero``: help, cores and workers as processes, and what is said of wrong arguments."""

import asyncio
import importlib.metadata
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.harness import Core, Process, Worker, free_port
from tests.scenarios.flows import HERE
from tests.scenarios.system import Http


async def run(*arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    """What a command that ends by itself says, and its exit code."""
    process = Process("-m", "arriero", *arguments, cwd=cwd)
    process.start()
    try:
        return await process.ended(), process.log
    finally:
        await process.aclose()


def error_of(said: str) -> str:
    """The last line, which is the error; nothing before it is a traceback."""
    assert "Traceback" not in said
    *_, last = said.strip().splitlines()
    assert last.startswith("Error: ")
    return last


async def test_help_shows_the_commands_and_their_options() -> None:
    (code, said), (core_code, core), (worker_code, worker) = await asyncio.gather(
        run("--help"), run("core", "--help"), run("worker", "--help")
    )
    assert code == core_code == worker_code == 0
    assert {"core", "worker"} <= set(said.split())
    assert {"--host", "--port", "--queue-port", "--state", "--log-level"} <= set(core.split())
    assert "MODULE:OBJECT" in worker
    assert {"--service", "--control-plane", "--port", "--concurrency", "--log-level"} <= set(worker.split())


async def test_the_version_is_that_of_the_package() -> None:
    assert await run("--version") == (0, f"arriero, version {importlib.metadata.version('arriero')}\n")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nonsense", ("MODULE:OBJECT", "flows.py:flow")),
        (f"{HERE}:", ("MODULE:OBJECT",)),
        ("nowhere.py:x", ("no file", "nowhere.py")),
        ("no.such.module:x", ("no.such.module", "No module named 'no'")),
        (f"{HERE}:Greetin", ("Greetin", "Greeting, Counting, Remembering", "did you mean 'Greeting'")),
        (f"{HERE}:answer_to_everything", ("int", "workflow or a function")),
        (f"{HERE}:Progress", ("Progress", "number")),
        ("json:nothing", ("nothing", "dump, dumps")),
    ],
)
async def test_a_target_that_cannot_be_served_is_told_with_what_can(target: str, words: tuple[str, ...]) -> None:
    code, said = await run("worker", target)
    assert code == 2
    error = error_of(said)
    for word in words:
        assert word in error


async def test_a_file_that_imports_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text("import no_such_package\n")
    code, said = await run("worker", "flows.py:flow", cwd=tmp_path)
    assert code == 2
    assert "'flows.py': No module named 'no_such_package'" in error_of(said)


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker", f"{HERE}:Greeting", "--control-plane", "::"),
        ("worker", f"{HERE}:Greeting", "--control-plane", "http://h:99999"),
        ("worker", f"{HERE}:Greeting", "--concurrency", "0"),
        ("worker", f"{HERE}:Greeting", "--port", "-1"),
        ("worker",),
        ("core", "--port", "http"),
        ("core", "--log-level", "loud"),
        ("cores",),
    ],
)
async def test_a_wrong_argument_is_told_in_a_line(arguments: tuple[str, ...]) -> None:
    code, said = await run(*arguments)
    assert code == 2
    error_of(said)


async def test_a_wrong_setting_of_a_core_is_told_in_a_line() -> None:
    code, said = await run("core", "--state", "mongodb://host/db", "--port", str(free_port()))
    assert code == 1
    assert "mongodb" in error_of(said)


async def test_a_core_and_a_worker_say_in_a_line_that_they_are_ready_and_with_what() -> None:
    async with Core() as core, Worker(f"{HERE}:shout", core=core, service="shouting", concurrency=3) as worker:
        assert f"control plane ready at {core.url}; state store {core.state}; " in core.log
        assert f"message queue SimpleMessageQueue at http://127.0.0.1:{core.queue_port}" in core.log
        assert f"message queue ready at http://127.0.0.1:{core.queue_port}/" in core.log
        line = f"service 'shouting' is connected to {core.url} with 3 slots; own routes at {worker.url}\n"
        assert line in worker.log


async def test_functions_and_workflows_are_served_and_a_module_may_be_named(core: Core, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    shutil.copy(HERE, tmp_path / "package" / "flows.py")
    workers = [
        Worker(f"{HERE}:shout", core=core),
        Worker("package.flows:double", core=core, service="doubling", cwd=tmp_path),
        Worker("package/flows.py:greeting", core=core, cwd=tmp_path),
    ]
    async with workers[0], workers[1], workers[2], core.client() as client:
        session = await client.create_session()
        assert await session.run("shout", text="quiet") == "QUIET"
        assert await session.run("doubling", x=2) == '{"doubled":4,"note":""}'
        assert await session.run("Greeting", name="Ada") == "hello Ada"


async def test_a_workers_own_routes_show_what_it_serves(core: Core) -> None:
    async with Worker(f"{HERE}:shout", core=core, service="shouting") as worker, Http(worker.url) as http:
        status, home = await http.get("/")
        assert (status, home["service_name"], home["type"]) == (200, "shouting", "function_service")


SLOW = """
async def slow(path: str) -> str:
    return await asyncio.to_thread(Path(path).read_text)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_lets_a_worker_finish_what_it_runs(core: Core, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "flows.py").write_text(f"import asyncio\nfrom pathlib import Path\n{SLOW}")
    pipe, name = tmp_path / "pipe", f"slow-{number.name}"
    os.mkfifo(pipe)
    async with Worker("flows.py:slow", core=core, service=name, cwd=tmp_path) as worker, core.client() as client:
        session = await client.create_session()
        running = asyncio.ensure_future(session.run(name, path=str(pipe)))
        writer = await asyncio.to_thread(pipe.open, "w")  # returns when the task has begun to read
        worker.signal(number)
        with writer:
            writer.write("finished")
        assert await running == "finished"
        assert await worker.ended() == 0
        assert "Traceback" not in worker.log
