"""``arriero worker``: one workflow or function as a service."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from arriero.cli.core import LEVELS, given
from arriero.cli.running import run

#: How many names an error lists.
SHOWN = 20


@click.command(short_help="Serve a workflow or a function.")
@click.argument("target", metavar="MODULE:OBJECT")
@click.option("--service", help="Name of the service. [WORKFLOW_SERVICE_SERVICE_NAME, or the object's own]")
@click.option("--control-plane", "url", help="Address of the control plane. [CONTROL_PLANE_HOST and _PORT]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the service's own routes; 0 is any. [WORKFLOW_SERVICE_PORT, 0]",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    help="How many tasks run at once. [WORKFLOW_SERVICE_MAX_CONCURRENT_TASKS, 8]",
)
@click.option("--log-level", type=LEVELS, default="info", show_default=True)
def worker(
    target: str, service: str | None, url: str | None, port: int | None, concurrency: int | None, log_level: str
) -> None:
    """Serve a workflow, a workflow class or a function until interrupted.

    MODULE is the name of a module, or a path that ends in .py.
    """

    async def part() -> None:
        from arriero.deploy import deploy_function, deploy_workflow
        from arriero.services import WorkflowServiceConfig

        served = load(target)
        settings = given(service_name=service, port=port, max_concurrent_tasks=concurrency)
        config = WorkflowServiceConfig(**settings)
        if "service_name" not in config.model_fields_set:
            config.service_name = _name_of(served)
        if _is_workflow(served):
            await deploy_workflow(served, config, control_plane_at(url))
        else:
            await deploy_function(served, control_plane_config=control_plane_at(url), config=config)

    run(part, log_level)


def load(target: str) -> Any:
    """The object that ``module:object`` names; a workflow class is instantiated."""
    place, _, path = target.rpartition(":")
    if not place or not path:
        raise click.UsageError(f"{target!r} is not of the form MODULE:OBJECT, such as flows.py:flow")
    found: Any = _module(place)
    for name in path.split("."):
        if not hasattr(found, name):
            raise click.UsageError(f"{place} has no {name!r}; {_what_there_is(found, name)}")
        place, found = name, getattr(found, name)
    if inspect.isclass(found):
        found = _instance(target, found)
    if not _is_workflow(found) and not callable(found):
        raise click.UsageError(f"{target!r} is of type {type(found).__name__}; serve a workflow or a function")
    return found


def _instance(target: str, cls: type[Any]) -> Any:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise click.UsageError(f"{target!r} cannot be made: {error}; make it in the file, and name that") from error
    return cls()


def _what_there_is(place: Any, name: str) -> str:
    """What could be served instead."""
    known = [known for known, value in vars(place).items() if not known.startswith("_") and _is_own(place, value)]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"it has {', '.join(known[:SHOWN]) or 'nothing to serve'}{hint}"


def _is_own(place: Any, value: Any) -> bool:
    """Whether it is a workflow, or what is called, and not merely imported there."""
    if _is_workflow(value):
        return True
    if inspect.isclass(value) and not any({"__call__", "run"} & vars(cls).keys() for cls in value.__mro__):
        return False
    return callable(value) and getattr(value, "__module__", None) == getattr(place, "__name__", None)


def _module(place: str) -> Any:
    if place.endswith(".py"):
        return _file(Path(place))
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"cannot import {place!r}: {error}") from error


def _file(path: Path) -> Any:
    if not path.is_file():
        raise click.UsageError(f"there is no file {str(path)!r}")
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"cannot import {str(path)!r}: {error}") from error
    return module


def _is_workflow(served: Any) -> bool:
    from workflows import Workflow

    return isinstance(served, Workflow)


def _name_of(served: Any) -> str:
    return str(getattr(served, "__name__", type(served).__name__))


def control_plane_at(url: str | None) -> Any:
    """The settings of the control plane of that address; None when the environment is to say where it is."""
    from arriero.types.settings import ControlPlaneConfig

    if url is None:
        return None
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise click.UsageError(f"{url!r} is no address of a control plane, such as http://127.0.0.1:8000")
    return ControlPlaneConfig(host=host, port=port, use_tls=parts.scheme == "https")
