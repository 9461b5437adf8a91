"""What a question is about, and what kind of answer it waits for."""

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from words import WORD, stem, tells, words

#: `How` with one of these asks for a quantity.
MEASURES = frozenset(
    words("big cold deep far fast heavy high hot large late little long many much often old quick soon tall wide")
)
#: `What` or `which` with one of these asks for a date, for a quantity, or for a name.
DATES = frozenset(words("date day hour month season time weekday year"))
UNITS = frozenset(words("amount number percentage port price size temperature version"))
NAMED = frozenset(words("author city company country person town village"))

ARTICLES = ("a", "an", "the")
SAYS_WHAT = ("are", "is", "mean", "means")

QUANTITY = re.compile(
    r"\d|\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|thousand|"
    r"once|twice|half|none|never|always)\b",
    re.IGNORECASE,
)
DATE = re.compile(
    r"\d|\b((mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|(?-i:May)|june|july|august|september|"
    r"october|november|december|spring|summer|autumn|winter|morning|noon|evening|night|midnight)s?\b",
    re.IGNORECASE,
)
#: A word with a capital letter that does not begin a sentence, an item or a cell.
NAME = re.compile(r"(?<=[^\W\d_] |[,(\"'`] )[A-Z]\w+|(?<=[,(\"'`])[A-Z]\w+")

#: A word that only says of which kind the answer is ("which *day*", "how *long*") need hardly stand in it.
OF_KIND = 0.5


class Kind(StrEnum):
    QUANTITY = "quantity"
    DATE = "date"
    NAME = "name"
    MEANING = "meaning"
    ANY = "any"


@dataclass(frozen=True)
class Question:
    """``terms`` maps the stems that the question is about, in their order, to how much each matters."""

    terms: dict[str, float]
    names: frozenset[str]
    kind: Kind

    @classmethod
    def read(cls, text: str) -> "Question":
        spoken = words(text)
        terms: dict[str, float] = {}
        for before, word in zip(["", *spoken], spoken, strict=False):
            if tells(word):
                matters = OF_KIND if _tells_kind(before, word) else 1.0
                terms[stem(word)] = max(matters, terms.get(stem(word), 0.0))
        names = {stem(word) for name in WORD.findall(text)[1:] if name != name.lower() for word in words(name)}
        return cls(terms, frozenset(names), _kind(spoken))

    def is_answered_in_kind(self, text: str) -> bool:
        """Whether a text holds anything of the kind that is asked for, in words that are not the question's."""
        if self.kind is Kind.QUANTITY:
            return bool(QUANTITY.search(text))
        if self.kind is Kind.DATE:
            return bool(DATE.search(text))
        if self.kind is Kind.NAME:
            return any(stem(word) not in self.terms for name in NAME.findall(text) for word in words(name))
        return True

    def is_defined_by(self, sentence: str) -> bool:
        """Whether the question asks what a thing is, and the sentence says it."""
        if self.kind is not Kind.MEANING:
            return False
        said = words(sentence)
        thing, size = list(self.terms), len(self.terms)
        stemmed = [stem(word) for word in said]
        places = [at for at in range(len(said) - size) if stemmed[at : at + size] == thing]
        return any(said[at + size] in SAYS_WHAT for at in places)


def _tells_kind(before: str, word: str) -> bool:
    return before in ("what", "which") or (before == "how" and word in MEASURES)


def _kind(spoken: list[str]) -> Kind:
    pairs = set(pairwise(spoken))
    asked = {(which, of) for which, of in pairs if which in ("what", "which", "how", "when")}
    if any(
        of in DATES or pair in (("when", "was"), ("how", "late"), ("how", "soon")) for pair in asked for of in pair[1:]
    ):
        return Kind.DATE
    if any(of in UNITS or (which == "how" and of in MEASURES) for which, of in asked):
        return Kind.QUANTITY
    if spoken[:1] in (["who"], ["whose"]) or any(of in NAMED for _, of in asked):
        return Kind.NAME
    about = [word for word in spoken[2:] if word not in ARTICLES]
    return Kind.MEANING if asked & {("what", "is"), ("what", "are")} and len(about) <= 3 else Kind.ANY
