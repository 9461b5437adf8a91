"""The words of a text, as search compares them: folded, stemmed, and without those that every text has."""

import re
import unicodedata
from functools import cache, lru_cache
from typing import Any

WORD = re.compile(r"[^\W_]+")

#: Words that say how a question is put, and not what it is about.
COMMON = frozenset(
    WORD.findall("""
    a about above after again all also although am an and another any anyone anything are around as at be
    because been before being below between both but by came can come comes could did do does doing done during
    each either else ever every everything exactly few first for from get gets give given gives go goes got had
    happen happened happens has have having he her here hers him his how i if in into is it its itself just know
    known let like made make makes many may me mean means might mine more most much must my name named need needs no nor
    not of off often on once one only onto or other our out over own per please said same say says shall she
    should show so some someone something such take takes tell than that the their them then there these they
    thing things this those through to too under until up upon us use used uses using very want was we went were
    what when where whether which while who whom whose why will with within without work works would yes yet you
    your
    """)
)


def words(text: str) -> list[str]:
    """The words of a text in their order, folded: no case, no accents."""
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return WORD.findall(text.casefold())


def stems(text: str) -> list[str]:
    """The stems of the words that carry meaning, in their order."""
    return [stem(word) for word in words(text) if tells(word)]


def tells(word: str) -> bool:
    """Whether a word carries meaning."""
    return word not in COMMON and (len(word) > 1 or word.isdigit())


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    return str(_stemmer().stemWord(word))


@cache
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")
