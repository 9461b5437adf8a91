"""Chat messages, for histories and prompts."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from arriero.types.jsonvalue import to_json_value

#: The class below has a method of the name ``dict``.
JSONObject = dict[str, Any]


class MessageRole(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    FUNCTION = "function"
    TOOL = "tool"
    CHATBOT = "chatbot"
    MODEL = "model"


class ChatMessage(BaseModel):
    """One turn of a conversation. The newer form, with ``blocks``, is read too: its text becomes the content."""

    role: MessageRole = MessageRole.USER
    content: Any | None = ""
    additional_kwargs: JSONObject = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _text_of_blocks(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "content" in data or not isinstance(data.get("blocks"), list):
            return data
        texts = [block["text"] for block in data["blocks"] if isinstance(block, dict) and "text" in block]
        return {**data, "content": "\n".join(map(str, texts))}

    def __str__(self) -> str:
        return f"{self.role.value}: {self.content}"

    def dict(self, **_: Any) -> JSONObject:
        """The message as a JSON object, with what lies inside of it. Errors: ``NotJSON``, a ``ValueError``."""
        return {
            name: to_json_value(getattr(self, name), f"{name} of a chat message") for name in type(self).model_fields
        }

    @classmethod
    def from_str(cls, content: str, role: MessageRole | str = MessageRole.USER, **kwargs: Any) -> Self:
        """A message with this text."""
        return cls(role=MessageRole(role), content=content, **kwargs)
