"""The service `search`: ranked passages of the text files in a folder, each with the evidence for it."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from folder import Folder, read_folder
from passages import Passage, passages_of, said_in
from progress import Progress, counted
from question import Question
from words import stems
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

MOST_PASSAGES = 20
LEAD = 120  # characters
#: What is left of the weight of a word that no file has: it may be said there in other words. A name may not.
UNKNOWN = 0.5


@dataclass(frozen=True)
class Entry:
    """A passage, and the stems that stand in it, in the headings above it, and anywhere in its file."""

    passage: Passage
    own: list[str]
    above: list[str]
    file: frozenset[str]


class SearchFor(StartEvent):
    question: str
    folder: str


class SearchWorkflow(Workflow):
    @step
    async def search(self, context: Context, event: SearchFor) -> StopEvent:
        folder = await asyncio.to_thread(read_folder, event.folder)
        context.write_event_to_stream(Progress(did=f"read {counted(len(folder.files), 'file')}"))
        found = await asyncio.to_thread(find, event.question, folder)
        context.write_event_to_stream(Progress(did=f"ranked {counted(found['searched'], 'passage')}"))
        return StopEvent(result=found)


def find(question: str, folder: Folder) -> dict[str, Any]:
    """The best passages first, the question's terms with their weights, and what was read."""
    entries = entries_of(folder)
    terms = weights(Question.read(question), entries)
    return {
        "files": len(folder.files),
        "skipped": folder.skipped,
        "searched": len(entries),
        "terms": terms,
        "passages": [_found(entry, score, terms) for entry, score in ranked(terms, entries)],
    }


def entries_of(folder: Folder) -> list[Entry]:
    entries = []
    for file in folder.files:
        passages = list(passages_of(file))
        name = str(PurePosixPath(file.name).with_suffix(""))
        whole = frozenset(stems(f"{name} {said_in(file.text)}"))
        for passage in passages:
            above = " ".join([name, *(passage.headings or [_lead(passages)])])
            entries.append(Entry(passage, stems(said_in(passage.text)), stems(above), whole))
    return entries


def weights(asked: Question, entries: Sequence[Entry]) -> dict[str, float]:
    """The terms as the files write them, each with how much it matters: the more, the fewer passages have it."""
    count = Counter(term for entry in entries for term in {*entry.own, *entry.above})

    def weight(term: str, matters: float) -> float:
        rare = math.log(1 + (len(entries) - count[term] + 0.5) / (count[term] + 0.5))
        return max(0.001, round(rare * matters * (1 if term in count or term in asked.names else UNKNOWN), 3))

    written = {_as_written(term, count): matters for term, matters in asked.terms.items()}
    return {term: weight(term, matters) for term, matters in written.items()}


def ranked(terms: Iterable[str], entries: Sequence[Entry]) -> list[tuple[Entry, float]]:
    """The passages with any of the terms, the best first, by BM25 over their words and the headings above them."""
    texts = [[*entry.own, *entry.above] for entry in entries]
    known = set().union(*texts)
    wanted = [term for term in terms if term in known]
    if not wanted:
        return []
    import bm25s

    index = bm25s.BM25()
    index.index(texts, show_progress=False)
    places, scores = index.retrieve([wanted], k=min(MOST_PASSAGES, len(entries)), show_progress=False)
    best = zip(places[0].tolist(), scores[0].tolist(), strict=True)
    return [(entries[place], score) for place, score in best if score > 0]


def _lead(passages: Sequence[Passage]) -> str:
    """What a file without headings is about: the beginning of its first passage."""
    return passages[0].text[:LEAD]


def _as_written(term: str, known: Iterable[str]) -> str:
    """The term, or its nearest relative among the known ones: `conductor` for `conduct`."""
    if term in known or len(term) < 5:
        return term
    relatives = [other for other in known if abs(len(other) - len(term)) <= 2 and _are_related(term, other)]
    return min(relatives, key=lambda other: (len(other), other), default=term)


def _are_related(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _found(entry: Entry, score: float, terms: Iterable[str]) -> dict[str, Any]:
    return asdict(entry.passage) | {
        "score": round(score, 3),
        "own_terms": [term for term in terms if term in entry.own],
        "above_terms": [term for term in terms if term in entry.above],
        "file_terms": [term for term in terms if term in entry.file],
    }


workflow = SearchWorkflow(timeout=None)
