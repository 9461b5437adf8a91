"""The arguments of a run: a task's text, turned into the start event of the workflow."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import msgspec
from pydantic import BaseModel, ValidationError

from arriero.types.errors import InvalidInput
from arriero.types.jsonvalue import MAX_DEPTH, is_deep

if TYPE_CHECKING:  # the engine is heavy, and reading a text does not need it
    from workflows import Workflow
    from workflows.events import StartEvent

EXPECTED = 'a JSON object with the arguments of the run, such as {"name": "value"}'

_decode = msgspec.json.Decoder().decode
_KIND = {dict: "an object", list: "an array", str: "text", bool: "a boolean", int: "a number", float: "a number"}


def parse_arguments(text: str) -> dict[str, Any]:
    """The arguments in a task's text, which is a JSON object; :class:`InvalidInput` says what it is instead."""
    if not isinstance(text, str):
        raise InvalidInput(f"the input of a workflow's task is {EXPECTED}, as text, not a {type(text).__name__}")
    try:
        value = _decode(text)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        problem = "it is empty" if not text.strip() else str(error)
        raise InvalidInput(f"the input of a workflow's task is {EXPECTED}; this is not JSON: {problem}") from None
    if not isinstance(value, dict):
        kind = _KIND.get(type(value), "null")
        raise InvalidInput(f"the input of a workflow's task is {EXPECTED}; this is {kind}")
    if is_deep(value, text):
        raise _too_deep()
    return value


def _too_deep() -> InvalidInput:
    return InvalidInput(f"the input lies more than {MAX_DEPTH} levels deep, which is the limit", limit=MAX_DEPTH)


def start_event(workflow: Workflow, arguments: Mapping[str, Any]) -> StartEvent:
    """The workflow's start event; :class:`InvalidInput` names what is missing or wrong in it, and what is valid."""
    cls = workflow.start_event_class
    # These would overwrite what the event keeps for itself.
    own = sorted({"self", *cls.__private_attributes__} & arguments.keys())
    if own:
        raise _refused(workflow, cls, [{"name": name, "problem": "this name cannot be used"} for name in own])
    try:
        return cls(**arguments)
    except ValidationError as error:
        raise _refused(workflow, cls, [_problem(each) for each in error.errors(include_url=False)]) from None


def _problem(error: Any) -> dict[str, str]:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] == "missing":
        return {"name": where, "problem": "is missing"}
    got = "" if error["type"] == "value_error" else f", not {type(error['input']).__name__}"
    return {"name": where, "problem": error["msg"][:1].lower() + error["msg"][1:] + got}


def _refused(workflow: Workflow, cls: type[BaseModel], problems: list[dict[str, str]]) -> InvalidInput:
    valid = fields_of(cls)
    said = "; ".join(f"{each['name'] or 'as a whole'}: {each['problem']}" for each in problems)
    listed = ", ".join(f"{name}: {kind}" for name, kind in valid.items()) or "any"
    message = f"the arguments do not fit {cls.__name__}, the start event of {type(workflow).__name__}: {said}. "
    return InvalidInput(f"{message}Valid arguments: {listed}", event=cls.__name__, problems=problems, valid=valid)


def fields_of(cls: type[BaseModel]) -> dict[str, str]:
    """The fields of an event and their types, as they would be written in Python."""
    return {
        name: _written(field.annotation) + ("" if field.is_required() else " (optional)")
        for name, field in cls.model_fields.items()
    }


def _written(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    text = inspect.formatannotation(annotation)
    return text if "'" in text else re.sub(r"\b\w+\.(?=\w)", "", text)
