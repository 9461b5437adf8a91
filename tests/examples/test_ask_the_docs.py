"""`make quickstart`, from the judgement of its services to its processes."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from arriero import (
    AsyncLlamaDeployClient,
    ControlPlaneConfig,
    WorkflowServiceConfig,
    deploy_core,
    deploy_workflow,
)
from arriero.types.errors import TaskFailed
from tests.examples import invented
from tests.examples.asking import QUICKSTART, ROOT, assert_all_ended, quickstart_run, runs


async def ask(quickstart: SimpleNamespace, question: str, folder: Path) -> dict:
    """What the services say to each other, without the system between them."""
    found = await quickstart.search.SearchWorkflow().run(question=question, folder=str(folder))
    return await quickstart.answer.AnswerWorkflow().run(
        question=question, terms=found["terms"], passages=found["passages"]
    )


def assert_stands_in_its_file(passage: dict, folder: Path) -> None:
    text = (folder / passage["file"]).read_text(encoding="utf-8")
    lines = text.splitlines()[passage["first_line"] - 1 : passage["last_line"]]
    assert passage["text"] in text
    assert passage["text"].splitlines()[0] in lines[0]
    assert passage["text"].splitlines()[-1] in lines[-1]


@pytest.mark.parametrize("seed", [11, 12])
async def test_eighteen_of_twenty_questions_find_their_file(quickstart, tmp_path: Path, seed: int) -> None:
    places = invented.invent(seed)
    invented.write(places, tmp_path)
    right = told = 0
    for asked in invented.answerable(places, seed):
        verdict = await ask(quickstart, asked.question, tmp_path)
        assert_stands_in_its_file(verdict["passage"], tmp_path)
        assert verdict["sentence"] in verdict["passage"]["text"]
        found = verdict["answered"] and verdict["passage"]["file"] == asked.file
        right += found
        told += found and asked.sentence in verdict["passage"]["text"]
    assert (len(places), right >= 18, told >= 18) == (20, True, True), f"{right} files, {told} sentences"


@pytest.mark.parametrize("seed", [11, 12])
async def test_eight_of_ten_questions_without_an_answer_are_told_so(quickstart, tmp_path: Path, seed: int) -> None:
    places = invented.invent(seed)
    invented.write(places, tmp_path)
    questions = invented.unanswerable(places, seed)
    verdicts = [await ask(quickstart, asked.question, tmp_path) for asked in questions]
    told = sum(not verdict["answered"] for verdict in verdicts)
    assert (len(questions), told >= 8) == (10, True), f"{told} of 10"


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("How many grams of coffee go into a litre?", "Take 60 grams of coffee for each litre."),
        ("When is the machine descaled?", "Descale the machine on the first Monday of the month."),
        ("What does the red lamp mean?", "| red | no water |"),
        ("What is a portafilter?", "A portafilter is the handle with the basket for the ground coffee."),
    ],
)
async def test_the_sentence_that_answers_is_pointed_at(quickstart, tmp_path: Path, question: str, says: str) -> None:
    (tmp_path / "machine.md").write_text(
        "# The coffee machine\n\nGrind the beans just before brewing. Take 60 grams of coffee for each litre.\n\n"
        "## Care\n\nNever use vinegar. Descale the machine on the first Monday of the month.\n\n"
        "A portafilter is the handle with the basket for the ground coffee. The portafilter is rinsed daily.\n\n"
        "| lamp | meaning |\n|---|---|\n| green | ready |\n| red | no water |\n",
        encoding="utf-8",
    )
    verdict = await ask(quickstart, question, tmp_path)
    assert (verdict["answered"], verdict["sentence"]) == (True, says)


@pytest.mark.parametrize("question", ["", "?", "Who are you?", "\N{GRINNING FACE}", "the of and", "x" * 100_000])
async def test_a_question_about_nothing_has_no_answer(quickstart, tmp_path: Path, question: str) -> None:
    (tmp_path / "a.md").write_text("The ferry leaves at nine. You are welcome.\n", encoding="utf-8")
    assert (await ask(quickstart, question, tmp_path))["answered"] is False


async def test_an_empty_folder_answers_nothing(quickstart, tmp_path: Path) -> None:
    assert await ask(quickstart, "When does the ferry leave?", tmp_path) == {
        "answered": False,
        "evidence": 0.0,
        "passage": None,
    }


def texts() -> list[str]:
    long_line = "A sentence that is not short at all follows another one. " * 100
    return [
        "", "\n\n\n", "one line", "# Only a heading\n", "Title\n=====\n\nText\r\nof two lines.\r\n\r\nMore.\r\n",
        "```python\n\nx = 1\n\n\ny = 2\n```\nafter\n", "```\nnever closed\n\nagain\n", long_line, "x" * 5000,
        "\N{BYTE ORDER MARK}# A\n\ntext\n", "- item\n" * 200, "| a | b |\n|---|---|\n" + "| c | d |\n" * 200,
        *(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/**/*.md"))),
    ]  # fmt: skip


@pytest.mark.parametrize("text", texts())
def test_passages_stand_in_their_file_and_hold_all_of_it_but_headings(quickstart, text: str) -> None:
    passages = list(quickstart.passages.passages_of(quickstart.folder.TextFile("a.md", text)))
    place = 0
    for passage in passages:
        assert passage.text.strip()
        assert len(passage.text) <= quickstart.passages.LONGEST
        place = text.index(passage.text, place) + len(passage.text)
        assert passage.last_line == text[:place].count("\n") + 1
    held = sum(len(passage.text.split()) for passage in passages) + sum(
        len(line.split()) for line in text.splitlines() if line.startswith("#")
    )
    assert held >= len(text.split()) * 0.98 - 4


def test_a_folder_is_read_with_care(quickstart, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / ".hidden").mkdir(parents=True)
    (folder / "inner").mkdir()
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    (folder / ".hidden" / "a.md").write_text("hidden")
    (folder / ".b.md").write_text("hidden")
    (folder / "inner" / "c.txt").write_text("read")
    (folder / "link.md").symlink_to("inner/c.txt")
    (folder / "out.txt").symlink_to(outside)
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "dangling.md").symlink_to("nowhere")
    (folder / "loop.md").symlink_to("loop.md")
    (folder / "binary.txt").write_bytes(b"a\0b")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "code.py").write_text("x = 1")
    os.mkfifo(folder / "pipe.md")
    (folder / "large.md").write_text("x" * 101)
    read = quickstart.folder.read_folder(folder, quickstart.folder.Limits(file_bytes=100))
    assert [file.name for file in read.files] == ["link.md", "inner/c.txt"]
    assert read.skipped == {
        "binary.txt": "not text",
        "dangling.md": "No such file or directory",
        "large.md": "larger than 100 bytes",
        "latin.txt": "not UTF-8 text",
        "loop.md": "Too many levels of symbolic links",
        "out.txt": "a link out of the folder",
        "pipe.md": "not a regular file",
    }


@pytest.mark.parametrize("limits", [{"files": 2}, {"total_bytes": 20}, {"entries": 2}])
def test_a_folder_beyond_the_limits_is_refused(quickstart, tmp_path: Path, limits: dict[str, int]) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("ten bytes.")
    with pytest.raises(quickstart.folder.FolderError, match="name a folder within it"):
        quickstart.folder.read_folder(tmp_path, quickstart.folder.Limits(**limits))


@pytest.mark.parametrize("path", ["", "missing", "file.txt", "nul\0", "x" * 5000])
def test_what_is_no_folder_is_an_error_that_says_so(quickstart, tmp_path: Path, path: str) -> None:
    (tmp_path / "file.txt").write_text("text")
    with pytest.raises(quickstart.folder.FolderError, match="folder"):
        quickstart.folder.read_folder(tmp_path / path if path else "")


@pytest.fixture
async def client(quickstart) -> AsyncIterator[AsyncLlamaDeployClient]:
    """A client of a core and the three services, all in this event loop."""
    config = ControlPlaneConfig(state_store_uri="memory:")
    async with AsyncLlamaDeployClient(config) as client, asyncio.TaskGroup() as parts:
        flows = {
            "search": quickstart.search.SearchWorkflow(timeout=None),
            "answer": quickstart.answer.AnswerWorkflow(timeout=None),
            "ask": quickstart.ask.AskWorkflow(timeout=None),
        }
        tasks = [parts.create_task(deploy_core(config))]
        for name, flow in flows.items():
            tasks.append(parts.create_task(deploy_workflow(flow, WorkflowServiceConfig(service_name=name), config)))
        yield client
        for task in tasks:
            task.cancel()


async def test_the_three_workflows_run_in_one_program_as_they_are(quickstart, tmp_path: Path) -> None:
    (tmp_path / "ferry.md").write_text("# Harbour\n\nThe ferry leaves at nine every morning.\n", encoding="utf-8")
    flow = quickstart.ask.AskWorkflow()
    flow.add_workflows(search=quickstart.search.SearchWorkflow(), answer=quickstart.answer.AnswerWorkflow())
    told = await flow.run(question="When does the ferry leave?", folder=str(tmp_path))
    assert (told["answered"], told["sentence"]) == (True, "The ferry leaves at nine every morning.")


async def test_thirty_questions_at_once_are_answered_by_the_services(quickstart, client, tmp_path: Path) -> None:
    places = invented.invent(13)
    invented.write(places, tmp_path)
    asked = invented.answerable(places, 13) + invented.unanswerable(places, 13)

    async def answer(question: str) -> dict:
        session = await client.create_session()
        task_id = await session.run_nowait("ask", question=question, folder=str(tmp_path))
        async for entry in session.follow(task_id):
            if entry.type == "Doubt":
                await session.send_event("ask", task_id, quickstart.ask.Confirmation(yes=False))
        return (await session.get_task_result(task_id)).value

    verdicts = await asyncio.gather(*(answer(each.question) for each in asked))
    files = [verdict["passage"]["file"] if verdict["answered"] else None for verdict in verdicts]
    right = [file == each.file for file, each in zip(files, asked, strict=True)]
    assert (sum(right[:20]) >= 18, sum(right[20:]) >= 8, len(right)) == (True, True, 30)
    assert all(verdict["ms"]["search"] > 0 < verdict["ms"]["answer"] for verdict in verdicts)


async def test_a_folder_that_cannot_be_read_fails_the_whole_task_in_its_words(client, tmp_path: Path) -> None:
    session = await client.create_session()
    with pytest.raises(TaskFailed, match="there is no folder") as failed:
        await session.run("ask", question="Where?", folder=str(tmp_path / "missing"))
    assert failed.value.error.type == "FolderError"


def test_links_that_stand_alone_in_a_table_are_not_searched(quickstart) -> None:
    row = "| A llama eats hay. | [llamas eat hay](tests/a.py)<br>[hay is eaten](tests/b.py) |"
    assert quickstart.passages.said_in(row) == "| A llama eats hay. ||"
    prose = "| See [what llamas eat](food.md). | [a](b.md) and more |"
    assert quickstart.passages.said_in(prose) == prose


def test_the_quickstart_prints_a_passage_that_stands_in_the_named_file() -> None:
    done = quickstart_run()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    said = re.search(
        r"^(docs/\S+), lines? (\d+)(?:-(\d+))?, says:\n-+\n(.*?)\n-+\n", done.stdout, re.MULTILINE | re.DOTALL
    )
    assert said is not None, done.stdout
    name, first, last, passage = said.groups()
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert passage == "\n".join(lines[int(first) - 1 : int(last or first)])
    assert "queued again" in passage
    assert re.search(r"search \d+\.\d ms, answer \d+\.\d ms, ask \d+\.\d ms", done.stdout)
    assert re.search(r"\d+\.\d s in all", done.stdout)
    assert_all_ended(done.stdout)


def test_the_quickstart_says_plainly_that_there_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "ferry.txt").write_text("The ferry to Ostwick leaves at nine.\n", encoding="utf-8")
    done = quickstart_run("Who painted the Mona Lisa?", "--folder", tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "do not answer this question" in done.stdout
    assert_all_ended(done.stdout)


def test_the_quickstart_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = quickstart_run("--folder", tmp_path / "missing")
    assert (done.returncode, done.stderr) == (1, f"quickstart: there is no folder {tmp_path / 'missing'}\n")
    assert_all_ended(done.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_quickstart_ends_its_processes_when_interrupted(number: signal.Signals) -> None:
    command = [sys.executable, QUICKSTART / "run.py"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = process.stdout.readline()
    process.send_signal(number)
    rest, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (130, "quickstart: interrupted; its processes have ended\n"), rest
    assert_all_ended(first)


def test_the_quickstart_runs_on_to_be_looked_at_when_it_is_told_to() -> None:
    process = subprocess.Popen(
        [sys.executable, QUICKSTART / "run.py", "--keep"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = [process.stdout.readline()]
    while lines[-1] and "kill -9" not in lines[-1]:
        lines.append(process.stdout.readline())
    services = httpx.get(re.search(r"http://\S+/services", "".join(lines))[0], timeout=10).json()
    for line in lines:
        match shlex.split(line) if "curl -X POST" in line else []:
            case ["curl", "-X", "POST", url, "-d", body]:
                answered = httpx.post(url, content=body, timeout=40).json()
    assert "15 seconds" in answered["value"]["passage"]["text"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors, list(services)) == (0, "", ["answer", "ask", "search"])
    assert_all_ended(lines[0])


async def test_a_part_that_ends_is_named_with_what_it_said_last(quickstart, tmp_path: Path) -> None:
    forever = asyncio.Event()
    async with quickstart.parts.parts_in(tmp_path, dict(os.environ)) as parts:
        await parts.start("core", "core", "--port", "0", "--queue-port", "0", "--state", "memory:")
        await parts.start("typo", "worker", "nowhere.py:flow")
        with pytest.raises(quickstart.parts.PartEnded) as ended:
            await parts.during(forever.wait())
        pids = [part.process.pid for part in parts.started]
    first, *rest = str(ended.value).splitlines()
    assert first == "typo ended with status 2"
    assert "nowhere.py" in rest[-1]
    assert [pid for pid in pids if runs(pid)] == []
