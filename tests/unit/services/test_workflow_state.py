"""The context of a run as signed JSON: `dump_workflow_state` and `load_workflow_state`."""

import sys
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from arriero import SimpleMessageQueue, WorkflowService
from arriero.services.workflow import WorkflowState, signature
from arriero.types.errors import InvalidInput, NotJSON

SECRET = "LLAMA_DEPLOY_WF_SERVICE_HASH_SECRET"


class Asked(StartEvent):
    word: str


class Gathers(Workflow):
    @step
    async def gather(self, context: Context, event: Asked) -> StopEvent:
        words = [*await context.store.get("words", default=[]), event.word]
        await context.store.set("words", words)
        await context.store.set("last", event)
        return StopEvent(result=words)


class Other(Workflow):
    @step
    async def gather(self, event: StartEvent) -> StopEvent:
        return StopEvent()


def service(workflow: type[Workflow] = Gathers, **settings: Any) -> WorkflowService:
    return WorkflowService(workflow(), SimpleMessageQueue(), **settings)


async def dumped(by: WorkflowService, word: str = "wool") -> WorkflowState:
    running = by.workflow.run(word=word)
    await running
    return by.dump_workflow_state(running.ctx, {"word": word}, task_id="T", session_id="S")


async def test_a_run_goes_on_with_the_context_that_was_dumped() -> None:
    state = await dumped(service())
    assert (state.task_id, state.session_id, state.run_kwargs) == ("T", "S", {"word": "wool"})
    another = service()
    context = another.load_workflow_state(WorkflowState.model_validate_json(state.model_dump_json()))
    assert context is not None
    assert await context.store.get("last") == Asked(word="wool")
    assert await another.workflow.run(ctx=context, word="salt") == ["wool", "salt"]


def test_a_state_of_nothing_is_no_context() -> None:
    assert service().load_workflow_state(WorkflowState(task_id="T")) is None


@pytest.mark.parametrize("hash", [None, 0, "", "é", "0" * 64])
async def test_a_state_without_its_signature_is_refused(hash: str | int | None) -> None:
    state = (await dumped(service())).model_copy(update={"hash": hash})
    with pytest.raises(InvalidInput, match=f"does not match.*{SECRET}"):
        service().load_workflow_state(state)


async def test_a_state_that_was_changed_is_refused() -> None:
    text = (await dumped(service())).model_dump_json()
    with pytest.raises(InvalidInput, match="does not match"):
        service().load_workflow_state(WorkflowState.model_validate_json(text.replace("wool", "gold")))


@pytest.mark.parametrize("name", [SECRET, "llama_deploy_HASH_SECRET"])
async def test_the_secret_is_that_of_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_default = await dumped(service())
    monkeypatch.setenv(name, "of the llamas")
    own = service()
    assert own.load_workflow_state(await dumped(service(hash_secret="of the llamas"))) is not None
    with pytest.raises(InvalidInput, match="another secret"):
        own.load_workflow_state(by_default)
    assert "of the llamas" not in repr(own.config)


async def test_no_class_comes_back_that_the_workflow_does_not_declare() -> None:
    loading = service()
    state = await dumped(loading)
    text = state.model_dump_json().replace(f"{Asked.__module__}.Asked", "antigravity.Asked")
    named = WorkflowState.model_validate_json(text)
    named.hash = signature(named.state, loading.config.hash_secret)
    with pytest.raises(InvalidInput, match=r"antigravity\.Asked"):
        loading.load_workflow_state(named)
    assert "antigravity" not in sys.modules


async def test_the_context_of_another_workflow_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Other"):
        service(Other).load_workflow_state(await dumped(service()))


def test_what_is_no_context_is_refused() -> None:
    state = {"workers": {}, "is_running": "perhaps"}
    loading = service()
    signed = WorkflowState(task_id="T", state=state, hash=signature(state, loading.config.hash_secret))
    with pytest.raises(InvalidInput, match="none of Gathers"):
        loading.load_workflow_state(signed)


async def test_what_json_cannot_hold_is_named() -> None:
    by = service()
    running = by.workflow.run(word="wool")
    await running
    await running.ctx.store.set("open", object())
    with pytest.raises(NotJSON, match="context of Gathers"):
        by.dump_workflow_state(running.ctx, task_id="T")
