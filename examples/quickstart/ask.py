"""The service `ask`: has a folder searched for a question and the findings judged; in doubt it asks the person.

It runs the workflows `search` and `answer` as parameters of its steps. Deployed, these are the services of those names;
in a notebook, the workflows that are bound by `AskWorkflow().add_workflows(search=..., answer=...)`.
"""

from collections.abc import Awaitable
from time import perf_counter
from typing import Any

from answer import AnswerWorkflow
from search import SearchWorkflow
from workflows import Context
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero import TransientError, Workflow, step
from arriero.types.errors import UnknownService

#: How much of the question, by weight, a passage has to hold for the person to be asked whether it is an answer.
DOUBTFUL = 0.5


class Ask(StartEvent):
    question: str
    folder: str


class Found(Event):
    question: str
    findings: dict[str, Any]
    ms: float


class Doubt(InputRequiredEvent):
    """What the person is asked: whether this passage is an answer."""

    passage: dict[str, Any]
    evidence: float


class Confirmation(HumanResponseEvent):
    yes: bool


class AskWorkflow(Workflow):
    @step
    async def find(self, event: Ask, search: SearchWorkflow) -> Found:
        began = perf_counter()
        findings = await started(search.run(question=event.question, folder=event.folder))
        return Found(question=event.question, findings=findings, ms=ms_since(began))

    @step
    async def judge(self, context: Context, event: Found, answer: AnswerWorkflow) -> Doubt | StopEvent:
        began = perf_counter()
        passages, terms = event.findings["passages"], event.findings["terms"]
        verdict = await started(answer.run(question=event.question, terms=terms, passages=passages))
        counts = {key: event.findings[key] for key in ("files", "searched", "skipped")}
        told = verdict | counts | {"ms": {"search": event.ms, "answer": ms_since(began)}}
        if verdict["answered"] or verdict["evidence"] < DOUBTFUL:
            return StopEvent(result=told)
        await context.store.set("told", told)
        return Doubt(passage=verdict["passage"], evidence=verdict["evidence"])

    @step
    async def conclude(self, context: Context, event: Confirmation) -> StopEvent:
        told = await context.store.get("told")
        return StopEvent(result=told | {"confirmed": event.yes})


async def started(call: Awaitable[Any]) -> Any:
    """What the call gives; a service that is not known yet is tried again, for all are started at once."""
    try:
        return await call
    except UnknownService as error:
        raise TransientError(f"{error} (it may be starting)") from error


def ms_since(began: float) -> float:
    """Milliseconds, the way through the queue included."""
    return round(1000 * (perf_counter() - began), 1)


workflow = AskWorkflow(timeout=None)
