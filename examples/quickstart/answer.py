"""The service `answer`: the passage that answers a question, or the plain word that none does.

With a model at hand (see `writer`) it has the answer written in words, from the passages.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from passages import sentences_of
from progress import Progress, counted
from question import Question
from words import stems
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from writer import PASSAGES, Endpoint, NotWritten

#: How much of the question, by weight, has to be found for an answer.
ENOUGH = 0.6
#: How much has to be found for a model to be asked.
WORTH_WRITING = 0.5
#: A term counts in full where it stands in the passage, and less where it stands near it.
IN_HEADINGS = 0.9
IN_FILE = 0.4
#: What is left of the evidence when nothing of the kind that was asked for (a number, a date, a name) is there.
OF_ANOTHER_KIND = 0.6
#: What a single sentence with the terms, and the rank in the search, add when passages are compared.
BY_SENTENCE = 0.4
BY_SEARCH = 0.3


class AnswerFrom(StartEvent):
    question: str
    terms: dict[str, float]
    passages: list[dict[str, Any]]


class Judged(Event):
    """The verdict, and the passages that a model would read."""

    question: str
    verdict: dict[str, Any]
    passages: list[dict[str, Any]]


class AnswerWorkflow(Workflow):
    @step
    async def weigh(self, context: Context, event: AnswerFrom) -> Judged:
        verdict = judge(event.question, event.terms, event.passages)
        weighed = counted(len(event.passages), "passage")
        did = f"weighed {weighed}, the best covers {verdict['evidence']:.0%} of the question"
        context.write_event_to_stream(Progress(did=did))
        best, others = verdict["passage"], event.passages[: PASSAGES - 1]
        passages = [best, *(passage for passage in others if not _is_same(passage, best))] if best else []
        return Judged(question=event.question, verdict=verdict, passages=passages)

    @step
    async def write(self, context: Context, event: Judged) -> StopEvent:
        endpoint = Endpoint.in_environment()
        if endpoint is None or event.verdict["evidence"] < WORTH_WRITING:
            return StopEvent(result=event.verdict)
        context.write_event_to_stream(Progress(did=f"asks {endpoint.name}"))
        return StopEvent(result=event.verdict | await written(endpoint, event.question, event.passages))


async def written(endpoint: Endpoint, question: str, passages: list[dict[str, Any]]) -> dict[str, Any]:
    """What the model adds to the verdict; where it fails, a sentence that says why."""
    try:
        answer = await endpoint.write(question, passages)
    except NotWritten as error:
        return {"note": f"No answer was written: {error}."}
    if answer is None:
        return {"answered": False, "note": f"{endpoint.name} finds no answer in the passages."}
    return {"written": answer, "writer": endpoint.name}


def _is_same(passage: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(passage[key] == other[key] for key in ("file", "first_line"))


@dataclass(frozen=True)
class Candidate:
    """A passage of the search, measured against the question. All measures are from 0 to 1."""

    passage: dict[str, Any]
    sentence: str
    evidence: float
    rank: float


def judge(question: str, terms: dict[str, float], passages: list[dict[str, Any]]) -> dict[str, Any]:
    """The passage with the best claim and its best sentence, and whether it is an answer."""
    bench = Bench(Question.read(question), terms, max((passage["score"] for passage in passages), default=0.0))
    candidates = [bench.measure(passage) for passage in passages]
    best = max(candidates, key=lambda candidate: candidate.rank, default=None)
    if best is None:
        return {"answered": False, "evidence": 0.0, "passage": None}
    return {
        "answered": best.evidence >= ENOUGH,
        "evidence": round(best.evidence, 3),
        "passage": {key: best.passage[key] for key in ("file", "first_line", "last_line", "text")},
        "sentence": best.sentence,
    }


@dataclass(frozen=True)
class Bench:
    """Where passages are measured against one question."""

    asked: Question
    terms: dict[str, float]
    top_score: float

    def measure(self, passage: dict[str, Any]) -> Candidate:
        sentences = sentences_of(passage["text"])
        sentence = max(sentences, key=self._worth)
        evidence = self._evidence(passage, sentences)
        rank = evidence + BY_SENTENCE * self._worth(sentence) + BY_SEARCH * passage["score"] / self.top_score
        return Candidate(passage, sentence, evidence, rank)

    def _evidence(self, passage: dict[str, Any], sentences: list[str]) -> float:
        """How much of the question is found, less if the passage itself has nothing of what its headings leave open."""
        credit = {term: _credit(term, passage) for term in self.terms}
        open_terms = [term for term in self.terms if term not in passage["above_terms"]]
        told = self._share(passage["own_terms"], open_terms)
        found = sum(weight * credit[term] for term, weight in self.terms.items()) / sum(self.terms.values())
        return found * math.sqrt(told) * (1 if self._is_of_kind(passage, sentences) else OF_ANOTHER_KIND)

    def _share(self, found: Iterable[str], wanted: Collection[str]) -> float:
        """How much of the wanted terms is among the found ones, by weight; all of it if none is wanted."""
        whole = sum(self.terms[term] for term in wanted)
        return sum(self.terms[term] for term in {*found} & {*wanted}) / whole if whole else 1.0

    def _is_of_kind(self, passage: dict[str, Any], sentences: list[str]) -> bool:
        """Whether what is asked for (a number, a name) stands in a sentence with a term of the question."""
        own = {*passage["own_terms"]}
        near = [sentence for sentence in sentences if own & {*stems(sentence)}]
        return any(self.asked.is_answered_in_kind(sentence) for sentence in near or sentences)

    def _worth(self, sentence: str) -> float:
        worth = self._share(stems(sentence), self.terms)
        if self.asked.is_defined_by(sentence):
            return 1.0 + worth
        return worth * (1 if self.asked.is_answered_in_kind(sentence) else OF_ANOTHER_KIND)


def _credit(term: str, passage: dict[str, Any]) -> float:
    if term in passage["own_terms"]:
        return 1.0
    if term in passage["above_terms"]:
        return IN_HEADINGS
    return IN_FILE if term in passage["file_terms"] else 0.0


workflow = AnswerWorkflow(timeout=None)
