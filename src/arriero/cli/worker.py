"""``arriero worker``: one workflow or function as a service."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from arriero.cli.core import LEVELS
from arriero.cli.running import run


@click.command()
@click.argument("target", metavar="MODULE:OBJECT")
@click.option("--service", help="Name of the service; the object's own by default.")
@click.option("--control-plane", "url", help="Address of the control plane. [CONTROL_PLANE_HOST and _PORT]")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the service's own routes; 0 is any.")
@click.option("--concurrency", type=click.IntRange(1), help="How many tasks run at once. [8]")
@click.option("--log-level", type=LEVELS, default="info", show_default=True)
def worker(
    target: str, service: str | None, url: str | None, port: int, concurrency: int | None, log_level: str
) -> None:
    """Serve a workflow, a workflow class or a function until interrupted.

    MODULE is the name of a module, or a path that ends in .py.
    """

    async def part() -> None:
        from arriero.deploy import deploy_function, deploy_workflow
        from arriero.services import WorkflowServiceConfig

        served = load(target)
        name = service or _name_of(served)
        settings: dict[str, Any] = {"service_name": name, "port": port}
        if concurrency is not None:
            settings["max_concurrent_tasks"] = concurrency
        config = WorkflowServiceConfig(**settings)
        if _is_workflow(served):
            await deploy_workflow(served, config, _control_plane(url))
        else:
            await deploy_function(served, control_plane_config=_control_plane(url), config=config)

    run(part, log_level)


def load(target: str) -> Any:
    """The object that ``module:object`` names; a workflow class is instantiated."""
    place, _, path = target.rpartition(":")
    if not place or not path:
        raise click.UsageError(f"{target!r} is not of the form MODULE:OBJECT, such as flows.py:flow")
    found: Any = _module(place)
    for name in path.split("."):
        if not hasattr(found, name):
            raise click.UsageError(f"{place} has no {name!r}; it has {', '.join(_public(found)) or 'nothing'}")
        found = getattr(found, name)
    if inspect.isclass(found):
        found = found()
    if not _is_workflow(found) and not callable(found):
        raise click.UsageError(f"{target!r} is a {type(found).__name__}; serve a workflow or a function")
    return found


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
    spec.loader.exec_module(module)
    return module


def _is_workflow(served: Any) -> bool:
    from workflows import Workflow

    return isinstance(served, Workflow)


def _name_of(served: Any) -> str:
    return str(getattr(served, "__name__", type(served).__name__))


def _public(module: Any) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")][:20]


def _control_plane(url: str | None) -> Any:
    from arriero.types.settings import ControlPlaneConfig

    if url is None:
        return None
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if not parts.hostname:
        raise click.UsageError(f"{url!r} is no address of a control plane, such as http://127.0.0.1:8000")
    return ControlPlaneConfig(host=parts.hostname, port=parts.port, use_tls=parts.scheme == "https")
