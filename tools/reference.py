"""The pages of docs/reference, made from the code.

``python -m tools.reference`` writes them; ``--check`` only says which are out of date, with status 1 if any is.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- Made by `python -m tools.reference`; change the code instead. -->"

HTTP = """
Bodies and answers are JSON. An error is answered with its status and a body of the form
`{"detail": "...", "error": {...}}`, whose `error` is described in [errors](errors.md). Each server describes its routes
in full at `/docs` and at `/openapi.json`, with the shape of every body.

Once [tokens](../how-to/protect-it-with-tokens.md) are configured, each request but `GET /health` needs one: 401
without, 403 when its scope does not do. `GET` needs `read`; the rest under `/sessions/` and `/dead/`, and what posts to
a service's own routes, needs `run`; everything else, and each route of the message queue, needs `deploy`. A request
whose `Host` is no name of the server gets 421, one from a web page of another origin 403.

That servers answer as they describe is tested with [schemathesis](https://schemathesis.readthedocs.io), with all of its
checks. `CONTRACT_EXAMPLES=200 python -m pytest tests/scenarios/test_contract.py` makes more cases for each operation
than the tests do by themselves.
"""
SETTINGS = """
A setting is given to its class, or by the environment under the name in the second column; what is given to the class
wins. Durations are in seconds and sizes in bytes.
"""
CLIENTS = """
Every method is a coroutine, or gives an asynchronous generator, where its client is asynchronous. The synchronous
clients have the same methods with the same arguments: `LlamaDeployClient` and `SessionClient`, and everything under
`Client().sync`. `aclose` is `close` there. How they are used is told in
[use the clients](../how-to/use-the-clients.md).
"""
ERRORS = """
All errors are classes of one tree in `arriero.types.errors`. Over HTTP and in a task's result they are JSON: `code`
(stable, for programs), `type` (the class that was raised), `message` (for people), `retryable`, `retry_after` and
`details`. The client raises the class of that code again.
"""


def main() -> int:
    stale = [path for path, text in pages() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path} is out of date: run python -m tools.reference")
        return 1 if stale else 0
    for path, text in pages():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def pages() -> Iterator[tuple[Path, str]]:
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "http": http,
        "clients": clients,
        "settings": settings,
        "errors": errors,
    }
    for name, maker in makers.items():
        lines = list(maker())
        yield FOLDER / f"{name}.md", "\n".join([lines[0], "", NOTE, *lines[1:]]) + "\n"


def http() -> Iterator[str]:
    yield from ["# HTTP routes", "", *HTTP.strip().splitlines()]
    for title, told, app in applications():
        yield from ["", f"## {title}", "", told, "", "| route | does |", "|---|---|"]
        yield from (f"| {route} | {does} |" for route, does in routes_of(app.openapi()))


def applications() -> Iterator[tuple[str, str, Any]]:
    from workflows import Workflow, step
    from workflows.events import StartEvent, StopEvent

    from arriero import ControlPlaneConfig, ControlPlaneServer, SimpleMessageQueue, WorkflowService
    from arriero.message_queues import SimpleMessageQueueServer

    class Anything(Workflow):
        @step
        async def run_step(self, event: StartEvent) -> StopEvent:
            return StopEvent()

    config = ControlPlaneConfig(state_store_uri="memory:")
    yield "Control plane", "Port 8000 by default.", ControlPlaneServer(config=config).app
    service = WorkflowService(Anything(), SimpleMessageQueue())
    yield (
        "A service's own",
        "Any free port by default; only worth knowing for a service that is used by itself.",
        service.app,
    )
    yield "Simple message queue", "Port 8001 by default.", SimpleMessageQueueServer().app


def routes_of(description: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, methods in sorted(description["paths"].items()):
        for method, facts in methods.items():
            queries = [given["name"] for given in facts.get("parameters", []) if given["in"] == "query"]
            query = "?" + "&".join(f"{name}=" for name in queries) if queries else ""
            does = facts.get("description") or facts.get("summary", "") + "."
            yield f"`{method.upper()} {path}{query}`", cell(does)


def clients() -> Iterator[str]:
    from arriero.client import AsyncLlamaDeployClient, AsyncSessionClient, Client, TaskEntry
    from arriero.client.sdk import Service, ServiceCollection, SessionCollection

    yield from ["# Clients", "", *CLIENTS.strip().splitlines()]
    told = {
        "AsyncLlamaDeployClient": AsyncLlamaDeployClient,
        "AsyncSessionClient, and the sessions of Client": AsyncSessionClient,
        "Client": Client,
        "Client.core.sessions": SessionCollection,
        "Client.core.services": ServiceCollection,
        "What Client.core.services gives": Service,
        "What follow gives": TaskEntry,
    }
    for title, cls in told.items():
        yield from ["", f"## {title}", "", cell(inspect.getdoc(cls) or ""), ""]
        yield from ["| | |", "|---|---|"]
        yield from (f"| `{call}` | {does} |" for call, does in members_of(cls))


def members_of(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """The public methods and properties that its classes of ours define, with their arguments."""
    seen: set[str] = set()
    for owner in reversed([each for each in cls.__mro__ if each.__module__.startswith("arriero.")]):
        for name, member in vars(owner).items():
            function = member.fget if isinstance(member, property) else member
            if name.startswith("_") or name in seen or not inspect.isfunction(function):
                continue
            if not function.__module__.startswith("arriero."):
                continue
            seen.add(name)
            yield name + ("" if isinstance(member, property) else arguments_of(function)), cell(function.__doc__ or "")


def arguments_of(function: Callable[..., Any]) -> str:
    given = [parameter for name, parameter in inspect.signature(function).parameters.items() if name != "self"]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in given]
    return str(inspect.Signature(bare)).replace("Ellipsis", "...")


def settings() -> Iterator[str]:
    yield from ["# Settings", "", *SETTINGS.strip().splitlines()]
    for model in setting_classes():
        yield from ["", f"## {model.__name__}", "", cell(inspect.getdoc(model) or ""), ""]
        yield from ["| setting | environment | default | |", "|---|---|---|---|"]
        told = {name: text for kind in reversed(model.__mro__[:-1]) for name, text in comments_of(kind).items()}
        prefix = model.model_config.get("env_prefix", "")
        for name, field in model.model_fields.items():
            environment = f"{prefix}{name}".upper()
            yield f"| `{name}` | `{environment}` | {default_of(field)} | {cell(told.get(name, ''))} |"


def setting_classes() -> list[type[BaseModel]]:
    from arriero import ControlPlaneConfig, SimpleMessageQueueConfig, SimpleOrchestratorConfig, WorkflowServiceConfig
    from arriero.client import Client, ClientSettings
    from arriero.types.tokens import TokenSettings

    return [
        ControlPlaneConfig,
        SimpleMessageQueueConfig,
        SimpleOrchestratorConfig,
        WorkflowServiceConfig,
        ClientSettings,
        Client,
        TokenSettings,
    ]


def comments_of(model: type[Any]) -> dict[str, str]:
    """What stands in ``#:`` comments above the fields."""
    told: dict[str, str] = {}
    above: list[str] = []
    for line in map(str.strip, inspect.getsource(model).splitlines()):
        if line.startswith("#:"):
            above.append(line.removeprefix("#:").strip())
        elif above:
            told[line.partition(":")[0]] = " ".join(above)
            above = []
    return told


def default_of(field: Any) -> str:
    if field.default_factory is not None:
        return "computed"
    return "required" if field.default is PydanticUndefined else f"`{field.default!r}`"


def errors() -> Iterator[str]:
    from arriero.types import errors as module

    tree = re.search(r"::\n\n(.*?)\n\n", module.__doc__ or "", re.DOTALL)
    yield from ["# Errors", "", *ERRORS.strip().splitlines()]
    yield from ["", "```", inspect.cleandoc(tree[1] if tree else ""), "```"]
    yield from ["", "| class | code | status | try again | what to do |", "|---|---|---|---|---|"]
    for code, error in module.ERRORS.items():
        told = cell(inspect.getdoc(error) or "")
        yield f"| `{error.__name__}` | `{code}` | {error.status} | {'yes' if error.retryable else 'no'} | {told} |"


def cell(text: str) -> str:
    """Text for one line of a table, with its references as plain code."""
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text).replace("``", "`")
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
