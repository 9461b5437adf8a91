"""Passages: the pieces of a file that an answer can point at. Each stands word for word in its file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from folder import TextFile

LONGEST = 900  # characters of a passage
ENOUGH = 160  # characters after which an item or a row of a table begins a passage of its own
SHORT = 80  # characters of a title

HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
UNDERLINE = re.compile(r"^ {0,3}(=+|-{3,})\s*$")
FENCE = re.compile(r"^\s*(```|~~~)")
ITEM = re.compile(r"^ {0,3}([-*+]|\d+[.)])\s+|^\|")
SENTENCE_END = re.compile(
    r"[.!?][\"')\]*_`]*\s+(?=[\"'(\[*_`]*[A-Z0-9])"  # a full stop
    r"|\n\s*(?=[-*+]\s|\d+[.)]\s|\|(?!\s*:?-))"  # the next item or row
)
LINKS_ALONE = re.compile(r"\|\s*(\[[^\]]*\]\([^)]*\)(<br>|\s)*)+(?=\|)")
TABLE_HEAD = re.compile(r"\n\s*\|\s*:?-")


@dataclass(frozen=True)
class Passage:
    """``text`` is the file's own from ``first_line`` to ``last_line``, counted from 1; ``headings`` stand above it."""

    file: str
    first_line: int
    last_line: int
    text: str
    headings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Line:
    number: int
    text: str  # with its line end, if that is in it


def passages_of(file: TextFile) -> Iterator[Passage]:
    """The file's paragraphs, lists and blocks, cut where they are long, under their headings."""
    headings: list[tuple[int, str]] = []
    for place, block in enumerate(_blocks(file.text)):
        heading = _heading(block) or (_title(block) if place == 0 else None)
        if heading:
            headings = [above for above in headings if above[0] < heading[0]] + [heading]
            continue
        for lines in _cut(block):
            whole = "".join(line.text for line in lines).rstrip()
            text = whole.lstrip("\r\n")
            first = lines[0].number + whole.count("\n") - text.count("\n")
            above = tuple(title for _, title in headings)
            if text:
                yield Passage(file.name, first, first + text.count("\n"), text, above)


def sentences_of(text: str) -> list[str]:
    """The sentences, list items and table rows of a passage, word for word; the head of a table is none."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    pieces = [text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    told = [piece for piece in pieces if piece and not TABLE_HEAD.search(piece)]
    return told or [text]


def said_in(text: str) -> str:
    """The text without the cells of tables that hold links alone: those say nothing themselves."""
    return LINKS_ALONE.sub("|", text)


def _blocks(text: str) -> Iterator[list[_Line]]:
    """Runs of lines without a blank line between them; a fenced block stays whole, a heading stands alone."""
    block: list[_Line] = []
    fenced = False
    for line in _lines(text):
        content = line.text.rstrip("\r\n")
        fence = bool(FENCE.match(content))
        alone = not fenced and bool(HEADING.match(content))
        if alone or (not content.strip() and not fenced):
            yield from [block] if block else []
            block = []
        if content.strip() or (fenced and block):
            block.append(line)
        if alone:
            yield block
            block = []
        fenced ^= fence
    yield from [block] if block else []


def _lines(text: str) -> Iterator[_Line]:
    """The lines; one that is too long for a passage comes in pieces, all of its number."""
    for number, content in enumerate(text.split("\n"), start=1):
        rest = content + "\n"
        while len(rest) > LONGEST + 1:
            end = _place_to_cut(rest)
            yield _Line(number, rest[:end])
            rest = rest[end:]
        yield _Line(number, rest)


def _place_to_cut(line: str) -> int:
    ends = [match.end() for match in SENTENCE_END.finditer(line, 0, LONGEST)]
    return ends[-1] if ends else line.rfind(" ", 1, LONGEST) + 1 or LONGEST


def _heading(block: list[_Line]) -> tuple[int, str] | None:
    match = HEADING.match(block[0].text.rstrip())
    if match and len(block) == 1:
        return len(match[1]), match[2]
    if len(block) == 2 and UNDERLINE.match(block[1].text):
        return (1 if "=" in block[1].text else 2), block[0].text.strip()
    return None


def _title(block: list[_Line]) -> tuple[int, str] | None:
    """A short first line that stands alone and is no sentence names the file."""
    text = block[0].text.strip()
    return (0, text) if len(block) == 1 and len(text) < SHORT and not text.endswith((".", "!", "?", ":")) else None


def _cut(block: list[_Line]) -> Iterator[list[_Line]]:
    """Parts of at most LONGEST characters; a list is cut before an item, a table before a row."""
    part: list[_Line] = []
    for line in block:
        size = sum(len(line.text) for line in part)
        full = size + len(line.text) > LONGEST
        if part and (full or (size > ENOUGH and ITEM.match(line.text))):
            yield part
            part = []
        part.append(line)
    yield from [part] if part else []
