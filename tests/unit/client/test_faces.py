"""The synchronous clients offer what the asynchronous ones do, with the same signatures."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from arriero.client import AsyncLlamaDeployClient, AsyncSessionClient, LlamaDeployClient, SessionClient
from arriero.client.sdk import Client, Core, DeadCollection, Service, ServiceCollection, SessionCollection
from arriero.client.sdk_sync import (
    SyncClient,
    SyncCore,
    SyncDeadCollection,
    SyncServiceCollection,
    SyncSessionCollection,
)
from arriero.client.session import Session
from arriero.client.synchronous import SyncSession
from arriero.types.services import ServiceDefinition
from arriero.types.settings import ControlPlaneConfig

PAIRS = [
    (AsyncLlamaDeployClient, LlamaDeployClient),
    (AsyncSessionClient, SessionClient),
    (Session, SyncSession),
    (SessionCollection, SyncSessionCollection),
    (ServiceCollection, SyncServiceCollection),
    (DeadCollection, SyncDeadCollection),
    (Core, SyncCore),
]
#: What an asynchronous signature says otherwise.
OTHERWISE = {
    "AsyncGenerator[dict[str, Any], None]": "Generator[dict[str, Any], None, None]",
    "AsyncGenerator[TaskEntry, None]": "Generator[TaskEntry, None, None]",
    "AsyncSessionClient": "SessionClient",
    "Session": "SyncSession",
    "list[Session]": "list[SyncSession]",
    "SessionCollection": "SyncSessionCollection",
    "ServiceCollection": "SyncServiceCollection",
    "DeadCollection": "SyncDeadCollection",
}
OTHER_NAMES = {"aclose": "close"}
#: What the parts of one face hand to one another.
INNER = {"caller"}

LLAMA_DEPLOY = {
    LlamaDeployClient: {
        "create_session": ["poll_interval"],
        "list_sessions": [],
        "get_session": ["session_id", "poll_interval"],
        "get_or_create_session": ["session_id", "poll_interval"],
        "get_session_definition": ["session_id"],
        "delete_session": ["session_id"],
        "get_service": ["service_name"],
        "list_services": [],
        "register_service": ["service_def"],
        "deregister_service": ["service_name"],
    },
    SessionClient: {
        "run": ["service_name", "kwargs"],
        "run_nowait": ["service_name", "kwargs"],
        "create_task": ["task_def"],
        "get_tasks": [],
        "get_current_task": [],
        "get_task_result": ["task_id"],
        "get_task_result_stream": ["task_id"],
        "send_event": ["service_name", "task_id", "ev"],
    },
    Session: {"send_event_def": ["task_id", "ev_def"]},
    SessionCollection: {
        "list": [],
        "create": [],
        "get": ["id"],
        "get_or_create": ["id"],
        "delete": ["session_id"],
    },
    ServiceCollection: {"list": [], "register": ["service"], "deregister": ["service_name"], "get": ["id"]},
}


def methods_of(cls: type) -> dict[str, Callable[..., Any]]:
    """The public methods of a class, and the getters of its properties."""
    found = {}
    for name, member in inspect.getmembers(cls):
        getter = member.fget if isinstance(member, property) else member
        if not name.startswith("_") and name not in INNER and callable(getter):
            found[OTHER_NAMES.get(name, name)] = getter
    return found


def told(method: Callable[..., Any]) -> tuple[list[tuple[str, Any, Any, str]], str]:
    signature = inspect.signature(method)
    parameters = [(p.name, p.kind, p.default, str(p.annotation)) for p in signature.parameters.values()]
    returns = str(signature.return_annotation)
    return parameters, returns


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS, ids=lambda cls: cls.__name__)
def test_the_two_faces_offer_the_same(asynchronous: type, synchronous: type) -> None:
    ours, theirs = methods_of(synchronous), methods_of(asynchronous)
    assert set(ours) == set(theirs)
    for name, method in theirs.items():
        parameters, returns = told(method)
        assert told(ours[name]) == (parameters, OTHERWISE.get(returns, returns)), name
        assert name == "close" or inspect.getdoc(ours[name]) == inspect.getdoc(method), name
        is_asynchronous = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
        assert is_asynchronous == (not is_property(asynchronous, name)), name
        assert not inspect.iscoroutinefunction(ours[name]), name


def is_property(cls: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(cls, name, None), property)


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS[:2], ids=lambda cls: cls.__name__)
def test_they_are_made_with_the_same_arguments(asynchronous: type, synchronous: type) -> None:
    assert inspect.signature(asynchronous) == inspect.signature(synchronous)


def test_the_sdk_in_its_two_faces_has_the_same_parts() -> None:
    assert set(methods_of(SyncClient)) == {"core", "apiserver", "close"}
    assert {"core", "aclose", "sync"} <= set(dir(Client))


def test_a_session_shows_its_id() -> None:
    config = ControlPlaneConfig()
    assert repr(AsyncSessionClient(config, "S")) == "AsyncSessionClient('S')"
    assert repr(SessionClient(config, "S")) == "SessionClient('S')"
    assert repr(Service(ServiceDefinition(service_name="svc", description=""))) == "Service('svc')"


@pytest.mark.parametrize("cls", LLAMA_DEPLOY, ids=lambda cls: cls.__name__)
def test_every_documented_method_takes_its_documented_arguments(cls: type) -> None:
    for name, arguments in LLAMA_DEPLOY[cls].items():
        parameters = inspect.signature(getattr(cls, name)).parameters.values()
        documented = [p.name for p in parameters if p.name != "self" and p.kind is not p.KEYWORD_ONLY]
        assert documented == arguments, name
