import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.message_queues.encoding import decode_message, encode_message
from arriero.types.errors import InvalidInput
from arriero.types.messages import ActionTypes, QueueMessage

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(text, values, max_size=5), st.sampled_from([None, *ActionTypes]), text)
def test_a_message_comes_back_as_it_was(data: dict[str, object], action: ActionTypes | None, type_: str) -> None:
    message = QueueMessage(data=data, action=action, type=type_)
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize("data", [{"x": object()}, {"x": b"\xff"}, {"x": "\ud800"}])
def test_what_is_not_json_is_invalid_input(data: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="not JSON"):
        encode_message(QueueMessage(data=data))


@pytest.mark.parametrize(
    ("body", "field"),
    [(b"", "body"), (b"\xff", "body"), (b"[]", "body"), (b'{"data": 1}', "data"), (b'{"action": "fly"}', "action")],
)
def test_what_cannot_be_read_is_invalid_input_that_names_the_field(body: bytes, field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        decode_message(body)


def test_unknown_fields_are_passed_over() -> None:
    assert decode_message(b'{"id_": "x", "colour": "red"}').id_ == "x"
