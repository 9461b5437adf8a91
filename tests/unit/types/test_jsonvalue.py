"""What a handler may return: JSON as it is, or converted without a guess, or refused with the place in it."""

import dataclasses
import enum
import json
import math
import uuid
from collections import OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import BaseModel, ConfigDict, RootModel, field_serializer

from arriero.types.errors import ERRORS, InvalidInput, NotJSON
from arriero.types.jsonvalue import MAX_DEPTH, encode_json, to_json_value


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Word(enum.StrEnum):
    A = "a"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    when: date


class Inner(BaseModel):
    at: datetime
    id: uuid.UUID


class Outer(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    inner: Inner | None = None
    free: Any = None
    share: float = 0.5


class Masked(BaseModel):
    secret: str

    @field_serializer("secret", when_used="json")
    def _mask(self, value: str) -> str:
        return "*" * len(value)


class Text(str):
    """A subclass may print as something else; its own characters count."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Pair(NamedTuple):
    left: int
    right: str


STAMP = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
NUMBER = uuid.UUID(int=7)

CONVERTED = [
    ((1, 2), [1, 2]),
    (Pair(1, "b"), [1, "b"]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({1: "one", "two": 2}, {"1": "one", "two": 2}),
    ({Word.A: 1, Level.LOW: 2}, {"a": 1, "1": 2}),
    (OrderedDict(a=1), {"a": 1}),
    (defaultdict(list, a=[1]), {"a": [1]}),
    (Colour.RED, "red"),
    (Colour.PAIR, [1, 2]),
    (Word.A, "a"),
    (Level.LOW, 1),
    (Text("plain"), "plain"),
    (STAMP, "2024-05-06T07:08:09+00:00"),
    (date(2024, 5, 6), "2024-05-06"),
    (time(7, 8), "07:08:00"),
    (NUMBER, str(NUMBER)),
    (Decimal("1.10"), "1.10"),
    (Point(1, date(2024, 5, 6)), {"x": 1, "when": "2024-05-06"}),
    (
        Outer(inner=Inner(at=STAMP, id=NUMBER)),
        {"inner": {"at": "2024-05-06T07:08:09Z", "id": str(NUMBER)}, "free": None, "share": 0.5},
    ),
    (RootModel[list[int]]([1, 2]), [1, 2]),
    (Masked(secret="abc"), {"secret": "***"}),
]


@pytest.mark.parametrize(("value", "expected"), CONVERTED, ids=[type(value).__name__ for value, _ in CONVERTED])
def test_python_types_become_json_wherever_they_stand(value: Any, expected: Any) -> None:
    assert to_json_value(value, "it") == expected
    assert json.loads(encode_json({"deep": [value]}, "it")) == {"deep": [expected]}
    converted = to_json_value({"deep": [value]}, "it")
    assert converted == {"deep": [expected]}
    assert json.loads(json.dumps(converted)) == converted


@pytest.mark.parametrize("value", [None, True, 0, -1, 1.5, "", "è ☃ 🦙", [], {}, {"a": [1, {"b": None}]}, 2**200])
def test_plain_values_are_given_back_themselves(value: Any) -> None:
    assert to_json_value(value, "it") is value
    assert json.loads(encode_json(value, "it")) == value


REFUSED = [
    (math.nan, "", "float"),
    ([1, math.inf], "[1]", "float"),
    (Decimal("NaN"), "", "decimal.Decimal"),
    ({"a": {"b c": b"x"}}, ".a['b c']", "bytes"),
    (bytearray(b"x"), "", "bytearray"),
    ([{"k": "\ud800"}], "[0].k", "str"),
    ({"\udfff": 1}, "", "str"),
    ({1.5: 1}, "", "dict"),
    ({"a": {None: 1}}, ".a", "dict"),
    ({True: 1}, "", "dict"),
    ({1: "a", "1": "b"}, "", "dict"),
    (timedelta(1), "", "datetime.timedelta"),
    ((object(),), "[0]", "object"),
    ({"f": print}, ".f", "builtin_function_or_method"),
    (Outer, "", "pydantic._internal._model_construction.ModelMetaclass"),
    (Outer(free=object()), ".free", "object"),
    (Outer(free={"a": math.nan}), ".free.a", "float"),
    (Outer(share=math.inf), ".share", "float"),
    ([Point(1, {print})], "[0].when{}", "builtin_function_or_method"),  # type: ignore[arg-type]  # the mistake tested
    (10**5000, "", "int"),
    (1j, "", "complex"),
]


@pytest.mark.parametrize(("value", "path", "type_name"), REFUSED, ids=range(len(REFUSED)))
def test_what_json_cannot_hold_is_refused_with_its_place_and_type(value: Any, path: str, type_name: str) -> None:
    for work in (to_json_value, encode_json):
        with pytest.raises(NotJSON) as caught:
            work(value, "the result")
        assert caught.value.details == {"path": path, "type": type_name}
        assert str(caught.value).startswith(f"the result is not JSON: {path or 'it'} is of type {type_name}, ")


def test_what_refers_to_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append({"again": [loop, loop]})
    with pytest.raises(NotJSON, match="refers to itself"):
        encode_json(loop, "the result")


def test_depth_is_limited() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    assert encode_json(nested(MAX_DEPTH), "it") == b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH
    with pytest.raises(NotJSON, match=f"more than {MAX_DEPTH} levels deep"):
        encode_json(nested(MAX_DEPTH + 1), "it")
    with pytest.raises(NotJSON, match=f"more than {MAX_DEPTH} levels deep"):
        encode_json(nested(100_000), "it")


def test_the_error_is_invalid_input_with_a_code_of_its_own() -> None:
    assert ERRORS["not_json"] is NotJSON
    assert issubclass(NotJSON, InvalidInput)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_any_json_comes_back_as_it_was(value: Any) -> None:
    assert json.loads(encode_json(value, "it")) == value
    assert to_json_value(value, "it") is value


@given(st.recursive(JSON | st.floats() | st.binary() | st.text(alphabet=st.characters()), st.lists))
def test_anything_is_either_exact_or_refused(value: Any) -> None:
    try:
        text = encode_json(value, "it")
    except NotJSON:
        return
    assert json.loads(text) == value
