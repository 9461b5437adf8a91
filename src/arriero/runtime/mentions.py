"""The classes that the code of a workflow names: what a step waits for or keeps shows in no signature.

They are found by the names in the compiled code of its methods and steps, looked up among their own globals and
closures. So a class is declared by being used, and nothing is ever imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any

from pydantic import BaseModel
from workflows import Workflow


def mentioned(workflow: Workflow, steps: Iterable[Callable[..., Any]]) -> list[type[BaseModel]]:
    """The pydantic models, events among them, that the workflow's code names."""
    found: dict[type[BaseModel], None] = {}
    for function in {*_methods(type(workflow)), *steps}:
        found.update(dict.fromkeys(_named_by(inspect.unwrap(function))))
    return sorted(found, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


def _methods(cls: type[Any]) -> Iterator[Callable[..., Any]]:
    for each in cls.__mro__:
        if issubclass(each, Workflow) and each.__module__.split(".")[0] not in ("workflows", "arriero"):
            yield from (value for value in vars(each).values() if inspect.isfunction(value))


def _named_by(function: Callable[..., Any]) -> Iterator[type[BaseModel]]:
    code, names = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if code is None:
        return
    closed = dict(zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=False))
    for name in _names(code):
        try:
            value = closed[name].cell_contents if name in closed else names.get(name)
        except ValueError:  # a name that has no value yet
            continue
        if isinstance(value, type) and issubclass(value, BaseModel):
            yield value


def _names(code: CodeType) -> set[str]:
    found = {*code.co_names, *code.co_freevars}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= _names(inner)
    return found
