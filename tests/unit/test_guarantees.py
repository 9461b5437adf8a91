from collections.abc import Callable
from pathlib import Path

import pytest

from tools import guarantees

pytest_plugins = ["pytester"]

TESTS = """
import pytest

from arriero.testing.kit import Contract


@pytest.mark.shows("one")
async def test_one_is_kept() -> None: ...


@pytest.mark.shows("two", by="test_two_is_kept")
class TestKit(Contract): ...
"""
KIT = """
class Contract:
    async def test_two_is_kept(self) -> None: ...
"""
PROMISES = '["Some"]\n"one" = "One is kept."\n"two" = "Two is kept."\n'

Make = Callable[..., list[str]]


@pytest.fixture
def broken(tmp_path: Path) -> Make:
    """What is wrong with a project of these parts, whose page was made from others if it is ``stale``."""

    def make(tests: str = TESTS, kit: str = KIT, promises: str = PROMISES, *, stale: bool = False) -> list[str]:
        page = f"# Kept\n\n{guarantees.BEGIN}\n{guarantees.END}\n"
        put(tmp_path / "tools" / "promises.toml", promises)
        put(tmp_path / "tests" / "unit" / "test_them.py", tests)
        put(tmp_path / "src" / "arriero" / "testing" / "kit.py", kit)
        put(tmp_path / guarantees.PAGE, page)
        if not stale:
            try:
                shown = guarantees.shown_in(tmp_path)
            except guarantees.Mistaken:
                shown = []
            page = guarantees.with_tables(page, guarantees.sections(tmp_path), shown)
            put(tmp_path / guarantees.PAGE, page)
        return list(guarantees.broken(tmp_path))

    return make


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_each_promise_stands_beside_its_tests(broken: Make, tmp_path: Path) -> None:
    assert broken() == []
    page = (tmp_path / guarantees.PAGE).read_text(encoding="utf-8")
    assert page.startswith("# Kept\n")
    assert "### Some\n" in page
    assert "| One is kept. | [one is kept](../../tests/unit/test_them.py) |" in page
    assert "| Two is kept. | [two is kept](../../src/arriero/testing/kit.py) |" in page


def test_a_page_that_was_made_from_other_tests_is_named(broken: Make) -> None:
    [line] = broken(stale=True)
    assert line == f"{guarantees.PAGE} is out of date: run python -m tools.guarantees"


def test_a_promise_that_no_test_shows_is_named(broken: Make) -> None:
    [line] = broken(promises=PROMISES + '"three" = "Three is kept."\n')
    assert line == "tools/promises.toml: no test shows 'three'"


def test_a_mark_that_is_no_promise_is_named(broken: Make) -> None:
    assert any("shows 'other', which is no promise" in line for line in broken(TESTS.replace('"one"', '"other"')))


@pytest.mark.parametrize(
    ("tests", "kit", "told"),
    [
        (TESTS.replace("@pytest.mark.shows", "@pytest.mark.skip\n@pytest.mark.shows", 1), KIT, "may be skipped"),
        (TESTS.replace("kept() -> None: ...", "kept() -> None: pytest.skip('no')"), KIT, "may be skipped"),
        (TESTS, KIT.replace("None: ...", "None: pytest.skip('no')"), "may be skipped"),
        (TESTS.replace("test_one", "one"), KIT, "is no test"),
        (TESTS, KIT.replace("test_two", "test_other"), "has no test_two_is_kept"),
        (TESTS.replace(', by="test_two_is_kept"', ""), KIT, "does not say by which test"),
        (TESTS.replace('"one"', "ONE"), KIT, "is written as plain text"),
    ],
)
def test_a_mark_on_what_shows_nothing_is_named(broken: Make, tests: str, kit: str, told: str) -> None:
    [line] = broken(tests, kit)
    assert told in line


MARKED = """
import pytest


@pytest.mark.shows("claim.once")
def test_it() -> None:
    pytest.skip("not today")
"""


@pytest.fixture
def outcome(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], pytest.RunResult]:
    """What becomes of a test under the rules of this folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    conftest = (Path(__file__).parents[1] / "conftest.py").read_text(encoding="utf-8")

    def run(source: str) -> pytest.RunResult:
        pytester.makeconftest(conftest)
        pytester.makepyprojecttoml('[tool.pytest.ini_options]\nmarkers = ["shows"]\n')
        pytester.makepyfile(test_marked=source)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider")

    return run


def test_a_test_that_shows_a_promise_fails_when_it_is_skipped(outcome: Callable[[str], pytest.RunResult]) -> None:
    outcome(MARKED).assert_outcomes(failed=1)


def test_a_mark_that_is_no_promise_stops_the_tests(outcome: Callable[[str], pytest.RunResult]) -> None:
    result = outcome(MARKED.replace("claim.once", "claim.twice"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*shows ?'claim.twice'?: no promises of tools/promises.toml"])
