import ast
import importlib
from pathlib import Path

import pytest

import arriero

DOCUMENTED = {
    "ActionTypes",
    "ArrieroError",
    "AsyncLlamaDeployClient",
    "AsyncSessionClient",
    "BaseOrchestrator",
    "BaseService",
    "CallableMessageConsumer",
    "Client",
    "ControlPlaneConfig",
    "ControlPlaneServer",
    "EventDefinition",
    "FunctionService",
    "LlamaDeployClient",
    "Nested",
    "QueueMessage",
    "ServiceDefinition",
    "SessionClient",
    "SessionDefinition",
    "SimpleMessageQueue",
    "SimpleMessageQueueConfig",
    "SimpleMessageQueueServer",
    "SimpleOrchestrator",
    "SimpleOrchestratorConfig",
    "TaskDefinition",
    "TaskEntry",
    "TaskResult",
    "TransientError",
    "Workflow",
    "WorkflowService",
    "WorkflowServiceConfig",
    "add_workflows",
    "deploy_core",
    "deploy_function",
    "deploy_workflow",
    "idempotency_key",
    "idempotency_key_sync",
    "step",
}


def names_for_the_type_checker() -> dict[str, str]:
    """Which room each name comes from, as the block for type checkers in the root module says."""
    tree = ast.parse(Path(arriero.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(arriero.__all__) == DOCUMENTED
    assert len(arriero.__all__) == len(DOCUMENTED)


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_a_public_name_is_the_one_that_its_room_exports(name: str) -> None:
    room = importlib.import_module(names_for_the_type_checker()[name])
    assert getattr(arriero, name) is getattr(room, name)


def test_type_checkers_see_every_public_name() -> None:
    assert set(names_for_the_type_checker()) == DOCUMENTED


def test_dir_lists_the_public_names_before_they_are_loaded() -> None:
    assert set(dir(arriero)) >= DOCUMENTED | {"__version__"}


def test_a_name_that_is_not_public_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="NoSuchName"):
        getattr(arriero, "NoSuchName")  # noqa: B009 as an attribute the type checker would refuse it
