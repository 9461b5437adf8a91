"""A task's text becomes the start event of a run, or a sentence that says what to send instead."""

import subprocess
import sys
from typing import Any, Literal

import pytest
from pydantic import Field, field_validator
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from arriero.runtime.arguments import fields_of, parse_arguments, start_event
from arriero.types.errors import InvalidInput
from arriero.types.jsonvalue import MAX_DEPTH
from tests.unit.runtime import flows


class Order(StartEvent):
    dish: str
    count: int = Field(ge=1)
    notes: dict[str, list[int]] | None = None
    size: Literal["s.m", "l"] = "l"
    guest: flows.Doc | None = None

    @field_validator("dish")
    @classmethod
    def _is_on_the_menu(cls, value: str) -> str:
        if value == "llama":
            raise ValueError("not on the menu")
        return value


class Kitchen(Workflow):
    @step
    async def cook(self, ev: Order) -> StopEvent:
        return StopEvent(result=ev.dish)


@pytest.mark.parametrize("text", ["{}", ' {"a": 1, "b": {"c": [null, "\\u00fc"]}} '])
def test_a_json_object_is_read(text: str) -> None:
    assert parse_arguments(text) == ({} if text == "{}" else {"a": 1, "b": {"c": [None, "ü"]}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is not JSON: it is empty"),
        ("   ", "this is not JSON: it is empty"),
        ("hello", "this is not JSON: JSON is malformed"),
        ("[1]", "this is an array"),
        ('"text"', "this is text"),
        ("3", "this is a number"),
        ("true", "this is a boolean"),
        ("null", "this is null"),
        ("{1: 2}", "object keys must be strings"),
        ('{"a": NaN}', "this is not JSON"),
        ('{"a": 1e999}', "out of range"),
        ('{"a": "\\ud800"}', "this is not JSON"),
        ('{"a": "\ud800"}', "this is not JSON"),
        ('{"a": ' + "9" * 10_000 + "}", "out of range"),
        ('{"a":' * 100_000, "levels deep"),
        ('{"a":' + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + "}", "levels deep"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_arguments(text)
    assert said in str(caught.value)
    assert "a JSON object" in str(caught.value) or "levels deep" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_depth_counts_levels_not_brackets() -> None:
    deep = '{"a":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}"
    assert list(parse_arguments(deep)) == ["a"]
    wide = '{"a": [' + ",".join(['"[{"', "[]", "{}"] * MAX_DEPTH) + "]}"
    assert len(parse_arguments(wide)["a"]) == 3 * MAX_DEPTH


def test_only_text_is_read() -> None:
    with pytest.raises(InvalidInput, match="as text, not a bytes"):
        parse_arguments(b"{}")  # type: ignore[arg-type]  # the mistake tested


def test_a_plain_start_event_takes_anything() -> None:
    event = start_event(flows.Echo(), {"value": 1, "any thing": 2, "get": 3, "cls": 4, "ctx": 5})
    assert type(event) is StartEvent
    assert event.to_dict() == {"value": 1, "any thing": 2, "get": 3, "cls": 4, "ctx": 5}


def test_a_start_event_of_its_own_is_validated() -> None:
    event = start_event(Kitchen(), {"dish": "soup", "count": 2, "guest": {"text": "Ana"}})
    assert isinstance(event, Order)
    assert (event.dish, event.count, event.guest) == ("soup", 2, flows.Doc(text="Ana"))


def test_every_argument_that_does_not_fit_is_named_with_the_valid_ones() -> None:
    with pytest.raises(InvalidInput) as caught:
        start_event(Kitchen(), {"count": "many", "notes": {"a": [1, "x"]}, "size": "xl"})
    assert caught.value.details == {
        "event": "Order",
        "problems": [
            {"name": "dish", "problem": "is missing"},
            {
                "name": "count",
                "problem": "input should be a valid integer, unable to parse string as an integer, not str",
            },
            {
                "name": "notes.a[1]",
                "problem": "input should be a valid integer, unable to parse string as an integer, not str",
            },
            {"name": "size", "problem": "input should be 's.m' or 'l', not str"},
        ],
        "valid": {
            "dish": "str",
            "count": "int",
            "notes": "dict[str, list[int]] | None (optional)",
            "size": "Literal['s.m', 'l'] (optional)",
            "guest": "Doc | None (optional)",
        },
    }
    message = str(caught.value)
    assert message.startswith("the arguments do not fit Order, the start event of Kitchen: dish: is missing; count: ")
    assert message.endswith("guest: Doc | None (optional)")


def test_what_its_own_validators_say_is_passed_on() -> None:
    with pytest.raises(InvalidInput, match="dish: value error, not on the menu; count: input should be greater"):
        start_event(Kitchen(), {"dish": "llama", "count": 0})


@pytest.mark.parametrize("name", ["_data", "self"])
def test_names_that_an_event_keeps_for_itself_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name}: this name cannot be used"):
        start_event(flows.Echo(), {name: {"x": 1}})


def test_values_never_stand_in_the_message() -> None:
    secret: Any = "s3cret"
    with pytest.raises(InvalidInput) as caught:
        start_event(Kitchen(), {"dish": ["s3cret"], "count": secret})
    assert secret not in str(caught.value)
    assert secret not in str(caught.value.details)


def test_reading_a_text_does_not_load_the_engine() -> None:
    program = "import sys, arriero.runtime.arguments; sys.exit('workflows' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_fields_are_shown_as_they_are_written() -> None:
    assert fields_of(flows.Question) == {
        "topic": "str",
        "depth": "int (optional)",
        "tags": "list[str] | None (optional)",
    }
