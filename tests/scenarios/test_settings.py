"""Settings: their documented defaults, their environment names, and what is wrong in them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from arriero import (
    ControlPlaneConfig,
    SimpleMessageQueueConfig,
    SimpleOrchestrator,
    SimpleOrchestratorConfig,
    WorkflowServiceConfig,
)
from tests.harness import PREFIXES, Core, Worker
from tests.scenarios.flows import HERE
from tests.scenarios.system import Http

DEFAULTS: dict[type[BaseSettings], dict[str, Any]] = {
    ControlPlaneConfig: {
        "services_store_key": "services",
        "tasks_store_key": "tasks",
        "session_store_key": "sessions",
        "step_interval": 0.1,
        "host": "127.0.0.1",
        "port": 8000,
        "internal_host": None,
        "internal_port": None,
        "running": True,
        "cors_origins": None,
        "topic_namespace": "llama_deploy",
        "state_store_uri": None,
        "use_tls": False,
    },
    SimpleMessageQueueConfig: {
        "host": "127.0.0.1",
        "port": 8001,
        "internal_host": None,
        "internal_port": None,
        "client_kwargs": {},
        "raise_exceptions": False,
        "use_ssl": False,
    },
    SimpleOrchestratorConfig: {"max_retries": 3, "final_message_type": None},
    WorkflowServiceConfig: {
        "host": "127.0.0.1",
        "internal_host": None,
        "internal_port": None,
        "service_name": "default_workflow_service",
        "description": "A service that wraps a llama-index workflow.",
        "running": True,
        "step_interval": 0.1,
        "max_concurrent_tasks": 8,
        "raise_exceptions": False,
        "use_tls": False,
    },
}
PREFIX = {
    ControlPlaneConfig: "CONTROL_PLANE_",
    SimpleMessageQueueConfig: "SIMPLE_MESSAGE_QUEUE_",
    SimpleOrchestratorConfig: "SIMPLE_ORCHESTRATOR_",
}
OTHERS: dict[str, Any] = {
    "services_store_key": "other",
    "tasks_store_key": "other",
    "session_store_key": "other",
    "step_interval": 0.5,
    "host": "localhost",
    "port": 1234,
    "internal_host": "127.0.0.2",
    "internal_port": 1235,
    "running": False,
    "cors_origins": ["http://localhost:3000"],
    "topic_namespace": "other",
    "state_store_uri": "memory:",
    "use_tls": True,
    "client_kwargs": {"timeout": 3},
    "raise_exceptions": True,
    "use_ssl": True,
    "max_retries": 7,
    "final_message_type": "human",
    "service_name": "other",
    "description": "other",
    "max_concurrent_tasks": 2,
}
CLASSES = pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)


@pytest.fixture(autouse=True)
def no_settings_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)


def as_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


@pytest.mark.shows("retry.count")
@CLASSES
def test_the_documented_defaults_hold(kind: type[BaseSettings]) -> None:
    dumped = kind().model_dump()
    assert {name: dumped[name] for name in DEFAULTS[kind]} == DEFAULTS[kind]
    assert "type" not in dumped


def test_the_class_of_the_simple_orchestrator_has_a_default_of_its_own() -> None:
    assert (SimpleOrchestrator().max_retries, SimpleOrchestrator().final_message_type) == (3, "human")
    assert SimpleOrchestrator(**SimpleOrchestratorConfig().model_dump()).final_message_type is None


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        *PREFIX.items(),
        (WorkflowServiceConfig, "WORKFLOW_SERVICE_"),
        (WorkflowServiceConfig, "LLAMA_DEPLOY_WF_SERVICE_"),
    ],
)
def test_every_setting_is_read_from_the_environment(
    kind: type[BaseSettings], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in DEFAULTS[kind]:
        with monkeypatch.context() as one:
            one.setenv(f"{prefix}{name.upper()}", as_text(OTHERS[name]))
            assert getattr(kind(), name) == OTHERS[name], name
    name = next(iter(DEFAULTS[kind]))
    monkeypatch.setenv(f"{prefix}{name.upper()}", "1")
    assert getattr(kind(**{name: OTHERS[name]}), name) == OTHERS[name]  # what is given comes before the environment


def test_of_the_two_prefixes_of_a_service_the_newer_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_SERVICE_HOST", "older")
    monkeypatch.setenv("WORKFLOW_SERVICE_PORT", "1")
    monkeypatch.setenv("LLAMA_DEPLOY_WF_SERVICE_HOST", "newer")
    config = WorkflowServiceConfig(service_name="given")
    assert (config.host, config.port, config.service_name) == ("newer", 1, "given")


@CLASSES
def test_an_unknown_setting_is_an_error_that_names_it(kind: type[BaseSettings]) -> None:
    with pytest.raises(ValidationError, match="hots"):
        kind(hots="127.0.0.1")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (ControlPlaneConfig, {"port": 70_000}),
        (ControlPlaneConfig, {"port": "none"}),
        (ControlPlaneConfig, {"topic_namespace": "a b"}),
        (ControlPlaneConfig, {"topic_namespace": ""}),
        (ControlPlaneConfig, {"lease": 0}),
        (ControlPlaneConfig, {"max_input": -1}),
        (SimpleMessageQueueConfig, {"port": -1}),
        (SimpleOrchestratorConfig, {"max_retries": -1}),
        (WorkflowServiceConfig, {"max_concurrent_tasks": 0}),
        (WorkflowServiceConfig, {"session_concurrency": "some"}),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_that_names_its_setting(
    kind: type[BaseSettings], wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = wrong
    with pytest.raises(ValidationError, match=name):
        kind(**wrong)
    prefix = PREFIX.get(kind, "WORKFLOW_SERVICE_")
    monkeypatch.setenv(f"{prefix}{name.upper()}", str(wrong[name]))
    with pytest.raises(ValidationError, match=name):
        kind()


def test_a_key_value_store_is_refused_with_what_to_set_instead() -> None:
    with pytest.raises(ValidationError, match="set state_store_uri instead"):
        ControlPlaneConfig(state_store=object())


def test_addresses_are_made_of_host_port_and_tls() -> None:
    assert ControlPlaneConfig().url == "http://127.0.0.1:8000"
    assert ControlPlaneConfig(host="h", port=1, use_tls=True).url == "https://h:1"
    assert ControlPlaneConfig(host="h", port=None).url == "http://h"
    assert WorkflowServiceConfig(host="h", port=8002).url == "http://h:8002"
    assert WorkflowServiceConfig(host="h", port=8002, use_tls=True).url == "https://h:8002"
    assert SimpleMessageQueueConfig().base_url == "http://127.0.0.1:8001/"


async def test_processes_take_their_settings_from_the_environment(tmp_path: Path) -> None:
    limits = {"CONTROL_PLANE_MAX_INPUT": "50", "CONTROL_PLANE_TOPIC_NAMESPACE": "mine"}
    async with Core(env=limits) as core:
        settings = {
            "CONTROL_PLANE_PORT": str(core.port),
            "WORKFLOW_SERVICE_DESCRIPTION": "from the older prefix",
            "LLAMA_DEPLOY_WF_SERVICE_MAX_CONCURRENT_TASKS": "1",
        }
        async with Worker(f"{HERE}:Greeting", service="greeting", env=settings), core.client() as client:
            assert (await client.get_service("greeting")).description == "from the older prefix"
            session = await client.create_session()
            assert await session.run("greeting", name="Ada") == "hello Ada"
            async with Http(core.url) as http:
                _, shown = await http.post("/services/register", {"service_name": "s", "description": "d"})
                assert (shown["topic_namespace"], shown["max_input"]) == ("mine", 50)
                body = {"input": "x" * 51, "service_id": "greeting"}
                assert (await http.post(f"/sessions/{session.session_id}/tasks", body))[0] == 413
