import json
from typing import Any

import pytest
from pydantic import BaseModel, Field
from workflows.context.serializers import JsonSerializer
from workflows.events import HumanResponseEvent

from arriero.client.events import definition_of
from arriero.types.errors import InvalidInput, NotJSON
from arriero.types.tasks import EventDefinition


class Confirmed(HumanResponseEvent):
    yes: bool
    notes: list[str] = Field(default_factory=list)


class Inner(BaseModel):
    number: int


class Wrapped(HumanResponseEvent):
    inner: Inner


def test_an_event_is_written_with_the_name_of_its_class() -> None:
    definition = definition_of("svc", Confirmed(yes=True, notes=["ñ"], extra={"a": [1]}))
    assert definition.service_id == "svc"
    assert json.loads(definition.event_obj_str) == {
        "__is_pydantic": True,
        "value": {"yes": True, "notes": ["ñ"], "_data": {"extra": {"a": [1]}}},
        "qualified_name": f"{__name__}.Confirmed",
    }


@pytest.mark.parametrize(
    "event", [Confirmed(yes=True), Confirmed(yes=False, more="text"), HumanResponseEvent(response="x")]
)
def test_it_is_written_as_the_engine_writes_it(event: HumanResponseEvent) -> None:
    theirs = json.loads(JsonSerializer().serialize(event))
    assert json.loads(definition_of("svc", event).event_obj_str) == theirs


def test_what_an_event_holds_is_plain_json() -> None:
    written = json.loads(definition_of("svc", Wrapped(inner=Inner(number=1))).event_obj_str)
    assert written["value"] == {"inner": {"number": 1}}
    with pytest.raises(NotJSON, match="number"):
        definition_of("svc", HumanResponseEvent(number=float("nan")))


def test_a_json_object_is_sent_as_it_is_and_so_is_a_definition() -> None:
    shape = {"__is_pydantic": True, "value": {"response": "x"}, "qualified_name": "HumanResponseEvent"}
    definition = definition_of("svc", shape)
    assert json.loads(definition.event_obj_str) == shape
    assert definition_of("svc", definition) is definition


@pytest.mark.parametrize("event", ["text", None, [1], 3])
def test_anything_else_is_refused(event: Any) -> None:
    with pytest.raises(InvalidInput, match="an event is"):
        definition_of("svc", event)


def test_a_definition_for_another_service_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'other'"):
        definition_of("svc", EventDefinition(service_id="other", event_obj_str="{}"))
