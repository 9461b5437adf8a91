"""Messages as the bytes that a broker carries: JSON in the documented form."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from arriero.types.errors import InvalidInput
from arriero.types.messages import QueueMessage


def encode_message(message: QueueMessage) -> bytes:
    """The JSON of a message. Errors: ``InvalidInput`` when its data is not JSON."""
    try:
        return message.model_dump_json().encode()
    except (PydanticSerializationError, UnicodeError) as error:
        raise InvalidInput(f"The data of message {message.id_} is not JSON: {error}") from error


def decode_message(body: bytes) -> QueueMessage:
    """The message in a body. Errors: ``InvalidInput``, which names the field that cannot be read."""
    try:
        return QueueMessage.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidInput(f"Not a queue message: {where}: {first['msg']}") from error
