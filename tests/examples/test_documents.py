"""The documents agree with the project and with one another."""

import re
from pathlib import Path

import pytest

from tools import reference

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
SETTING = re.compile(r"\b(?:CONTROL_PLANE|SIMPLE_MESSAGE_QUEUE|SIMPLE_ORCHESTRATOR)_[A-Z_]+[A-Z]\b")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    targets = LINK.findall(re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL))
    own = [target.partition("#")[0] for target in targets if not re.match(r"\w+:", target)]
    assert [target for target in own if not (document.parent / target).exists()] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        new = {target for page in new for target in pages_linked(page)} - reached
    lost = [path for path in DOCUMENTS if path not in reached and "decisions" not in path.parts]
    assert [path for path in lost if path.name != "benchmarks.md"] == []  # written by `make bench`


def test_every_setting_that_a_document_names_is_one() -> None:
    known = set(SETTING.findall((ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")))
    named = {name: page for page in DOCUMENTS for name in SETTING.findall(page.read_text(encoding="utf-8"))}
    assert {name: page.name for name, page in named.items() if name not in known} == {}


def pages_linked(page: Path) -> list[Path]:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    paths = [(page.parent / target.partition("#")[0]).resolve() for target in targets if ":" not in target]
    return [path for path in paths if path.suffix == ".md" and path.is_file()]


def test_the_reference_is_made_from_the_code_as_it_is() -> None:
    stale = [path.name for path, text in reference.pages() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run python -m tools.reference"


def test_the_glossary_is_in_order_and_says_each_word_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    assert words == sorted(set(words))
    assert len(words) > 20
