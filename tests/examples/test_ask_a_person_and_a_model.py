"""The quickstart asks the person when it is in doubt, has a model write when there is one, and bears a kill."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from tests.examples.asking import (
    COMMAND,
    QUICKSTART,
    ROOT,
    assert_all_ended,
    harbour,
    quickstart_run,
    started,
    surroundings,
)
from tests.examples.endpoint import Endpoint, endpoint_here

DOUBTFUL = "When does the ferry leave in winter?"
CERTAIN = "When does the ferry leave?"
KEY = "sk-test-4f8a1c"


@pytest.mark.parametrize(
    ("said", "arguments", "shown", "confirmed"),
    [(None, [], "no", False), ("yes\n", [], "yes", True), (None, ["--yes"], "yes (--yes)", True)],
    ids=["no input", "yes", "--yes"],
)
def test_in_doubt_the_person_decides(
    tmp_path: Path, said: str | None, arguments: list[str], shown: str, *, confirmed: bool
) -> None:
    done = quickstart_run("--folder", harbour(tmp_path), *arguments, DOUBTFUL, said=said)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"covers 53% of the question. Is it an answer? [y/N] {shown}\n" in done.stdout
    assert ("You took this for the answer." in done.stdout) is confirmed
    assert ("do not answer this question" in done.stdout) is not confirmed
    assert_all_ended(done.stdout)


def test_an_input_that_was_closed_means_no(tmp_path: Path) -> None:
    command = ["sh", "-c", '"$@" <&-', "sh", *COMMAND, "--folder", harbour(tmp_path), DOUBTFUL]
    done = subprocess.run(
        command, cwd=ROOT, env=surroundings(), capture_output=True, text=True, timeout=55, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "Is it an answer? [y/N] no\n" in done.stdout
    assert_all_ended(done.stdout)


SAYS_YES = "import asyncio, person; person.PATIENCE = float({}); print(asyncio.run(person.says_yes()))"


@pytest.mark.parametrize(
    ("said", "yes"),
    [("", False), ("n\n", False), ("what?\n", False), ("\nyes\n", False), ("Y", True), (" Yes \nand more\n", True)],
)
def test_only_a_line_that_says_yes_means_yes(said: str, *, yes: bool) -> None:
    command = [sys.executable, "-c", SAYS_YES.format(20)]
    told = subprocess.run(command, input=said, capture_output=True, text=True, cwd=QUICKSTART, check=True)
    assert told.stdout == f"{yes}\n"


def test_a_file_may_say_it_and_one_that_is_empty_means_no(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAYS_YES.format(20)]
    for said, yes in {"yes\n": True, "": False}.items():
        (tmp_path / "said").write_text(said)
        with (tmp_path / "said").open() as file:
            told = subprocess.run(command, stdin=file, capture_output=True, text=True, cwd=QUICKSTART, check=True)
        assert told.stdout == f"{yes}\n"


def test_an_input_that_stays_silent_means_no() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SAYS_YES.format(0.1)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=QUICKSTART
    )
    assert process.stdout.readline() == b"False\n"
    process.communicate()


async def test_at_a_terminal_it_waits_for_what_is_typed(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "--folder",
        harbour(tmp_path),
        DOUBTFUL,
        stdin=its,
        stdout=subprocess.PIPE,
        env=surroundings(),
        cwd=ROOT,
    )
    os.close(its)
    try:
        before = await process.stdout.readuntil(b"[y/N] ")
        os.write(ours, b"y\n")
        after = await process.stdout.read()
        assert b"You took this for the answer." in after
        assert await process.wait() == 0
    finally:
        os.close(ours)
    assert_all_ended((before + after).decode())


def test_what_is_certain_is_not_asked_and_events_are_shown_with_their_paths(tmp_path: Path) -> None:
    done = quickstart_run("--folder", harbour(tmp_path), CERTAIN)
    assert "[y/N]" not in done.stdout
    told = re.findall(r"^ +\d+\.\d\d s  (\S+) +(.*)$", done.stdout, re.MULTILINE)
    assert told == [
        ("ask/search", "read 1 file"),
        ("ask/search", "ranked 3 passages"),
        ("ask/search", "is done"),
        ("ask/answer", "weighed 1 passage, the best covers 100% of the question"),
        ("ask/answer", "is done"),
    ]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with endpoint_here() as endpoint:
        yield endpoint


def model(endpoint: Endpoint, name: str = "OPENAI_BASE_URL") -> dict[str, str]:
    return {name: endpoint.url, "OPENAI_API_KEY": KEY, "OPENAI_MODEL": "llama"}


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OPENAI_API_BASE"])
async def test_a_model_writes_the_answer_from_the_passages(endpoint: Endpoint, tmp_path: Path, name: str) -> None:
    environment = model(endpoint, name)
    done = await asyncio.to_thread(quickstart_run, "--folder", harbour(tmp_path), CERTAIN, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "At nine, says harbour.md.\n(written by llama at 127.0.0.1)\n" in done.stdout
    assert "The ferry leaves at nine every morning." in done.stdout
    [request] = endpoint.requests
    assert (request["model"], endpoint.keys) == ("llama", [f"Bearer {KEY}"])
    assert "The ferry leaves at nine" in request["messages"][1]["content"]
    assert KEY not in done.stdout


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (web.Response(status=401, text=KEY), "answered with status 401"),
        (web.Response(status=302, headers={"Location": "/elsewhere"}), "answered with status 302"),
        (web.Response(text="<html>"), "not of the form"),
        (web.json_response({"choices": []}), "not of the form"),
        (web.json_response({"choices": [{"message": {"content": None}}]}), "holds no text"),
        (web.Response(text="x" * 1_000_000), "more than 262144 bytes"),
    ],
    ids=["refused", "moved", "no JSON", "no choice", "no text", "endless"],
)
async def test_a_model_that_fails_leaves_the_passage_and_a_sentence_why(
    quickstart: SimpleNamespace, endpoint: Endpoint, response: web.Response, why: str
) -> None:
    endpoint.response = response
    told = await quickstart.answer.written(quickstart.writer.Endpoint.in_environment(model(endpoint)), CERTAIN, [])
    assert list(told) == ["note"]
    assert told["note"].startswith("No answer was written: ")
    assert why in told["note"]
    assert KEY not in told["note"]


@pytest.mark.parametrize(
    ("url", "key"),
    [("http://127.0.0.1:9", KEY), ("nowhere", KEY), ("http://[", KEY), ("http://127.0.0.1:9", "two\nlines")],
    ids=["nobody listens", "no address", "half an address", "no header"],
)
async def test_a_model_that_cannot_be_asked_does_so_too(quickstart: SimpleNamespace, url: str, key: str) -> None:
    environment = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
    told = await quickstart.answer.written(quickstart.writer.Endpoint.in_environment(environment), CERTAIN, [])
    assert "cannot be asked" in told["note"]
    assert key not in told["note"]


async def test_a_model_that_does_not_answer_in_time_is_not_waited_for(
    quickstart: SimpleNamespace, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart.writer, "SECONDS", 0.1)
    endpoint.arrived = asyncio.Queue()
    told = await quickstart.answer.written(quickstart.writer.Endpoint.in_environment(model(endpoint)), CERTAIN, [])
    assert "did not answer within" in told["note"]


async def test_without_an_address_no_model_is_asked(quickstart: SimpleNamespace) -> None:
    assert quickstart.writer.Endpoint.in_environment({"OPENAI_API_KEY": KEY}) is None


async def test_a_model_that_finds_no_answer_makes_the_person_decide(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reply = "None."
    done = await asyncio.to_thread(quickstart_run, "--folder", harbour(tmp_path), CERTAIN, **model(endpoint))
    assert "[y/N] no" in done.stdout
    assert "do not answer this question" in done.stdout
    assert "llama at 127.0.0.1 finds no answer in the passages." in done.stdout


async def test_a_failing_model_is_told_of_beside_the_passage(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.response = web.Response(status=500)
    done = await asyncio.to_thread(quickstart_run, "--folder", harbour(tmp_path), CERTAIN, **model(endpoint))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "The ferry leaves at nine every morning." in done.stdout
    assert "No answer was written: llama at 127.0.0.1 answered with status 500." in done.stdout


async def test_killing_answer_in_mid_run_changes_nothing_but_the_time(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.arrived = asyncio.Queue()
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "--folder",
        harbour(tmp_path),
        CERTAIN,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=surroundings(**model(endpoint)),
        cwd=ROOT,
    )
    first = (await process.stdout.readline()).decode()
    await endpoint.arrived.get()  # it has judged, and is about to write
    os.kill(started(first)["answer"], signal.SIGKILL)
    (await endpoint.arrived.get()).set()
    output = first + (await process.stdout.read()).decode()
    assert await process.wait() == 0, output
    assert "At nine, says harbour.md.\n(written by llama" in output
    assert re.search(r"answer +was killed \(\d+\) and is started again", output), output
    assert output.count("weighed 1 passage,") == 1  # it went on behind the step that had ended
    assert output.count("ask/answer is done") == 1
    assert_all_ended(output)
