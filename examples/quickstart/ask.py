"""The service `ask`: has a folder searched for a question and the findings judged, and tells how it goes.

It calls the services `search` and `answer` as any client does. The control plane is found as everywhere: by the
environment (`CONTROL_PLANE_PORT`), or on port 8000.
"""

import json
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from arriero import AsyncLlamaDeployClient, ControlPlaneConfig, TransientError
from arriero.types.errors import UnknownService


class Ask(StartEvent):
    question: str
    folder: str


class Progress(Event):
    """What a service has done, and in how many milliseconds, the way through the queue included."""

    service: str
    did: str
    ms: float


class Searched(Event):
    question: str
    findings: dict[str, Any]
    ms: float


class AskWorkflow(Workflow):
    def __init__(self, client: AsyncLlamaDeployClient, timeout: float | None = None) -> None:
        super().__init__(timeout=timeout)
        self._client = client

    @step
    async def search(self, context: Context, event: Ask) -> Searched:
        findings, ms = await self._call("search", question=event.question, folder=event.folder)
        did = f"read {findings['files']} files, ranked {findings['searched']} passages"
        context.write_event_to_stream(Progress(service="search", did=did, ms=ms))
        return Searched(question=event.question, findings=findings, ms=ms)

    @step
    async def answer(self, context: Context, event: Searched) -> StopEvent:
        passages, terms = event.findings["passages"], event.findings["terms"]
        verdict, ms = await self._call("answer", question=event.question, terms=terms, passages=passages)
        did = f"weighed {len(passages)} passages, the best covers {verdict['evidence']:.0%} of the question"
        context.write_event_to_stream(Progress(service="answer", did=did, ms=ms))
        counts = {key: event.findings[key] for key in ("files", "searched", "skipped")}
        return StopEvent(result=verdict | counts | {"ms": {"search": event.ms, "answer": ms}})

    async def _call(self, service: str, **arguments: Any) -> tuple[dict[str, Any], float]:
        """The JSON that a service makes of its arguments, and the milliseconds from submission to end."""
        session = await self._client.create_session()
        try:
            result = await session.run(service, **arguments)
        except UnknownService as error:
            raise TransientError(f"{error} (it may be starting)") from error
        [task] = await session.get_tasks()
        return json.loads(result), round(1000 * (task.finished_at - task.created_at), 1)


workflow = AskWorkflow(AsyncLlamaDeployClient(ControlPlaneConfig()))
