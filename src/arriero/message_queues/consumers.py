"""The documented consumers: a function, or an address that messages are posted to."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PrivateAttr

from arriero.message_queues.base import LONGEST_TOPIC, StartConsumingCallable
from arriero.message_queues.encoding import encode_message
from arriero.message_queues.http import ClientOptions, HttpPool
from arriero.types.errors import ArrieroError, InvalidInput, ProtocolError, TransientError, Unavailable
from arriero.types.ids import generate_id
from arriero.types.messages import QueueMessage

OK = range(200, 300)
#: Statuses besides 5xx that another attempt may change.
TRY_AGAIN = (408, 425, 429)
SERVER_ERROR = 500
#: How much of a refusing answer is quoted, in bytes.
QUOTED = 500


async def default_start_consuming_callable() -> None:
    """Nothing to start."""


class BaseMessageQueueConsumer(BaseModel, ABC):
    """Takes the messages of one type. Subclasses define ``_process_message``."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    id_: str = Field(default_factory=generate_id)
    message_type: str = "default"
    channel: Any = None
    consuming_callable: StartConsumingCallable = default_start_consuming_callable

    @abstractmethod
    async def _process_message(self, message: QueueMessage, **kwargs: Any) -> Any: ...

    async def process_message(self, message: QueueMessage, **kwargs: Any) -> Any:
        """Process one message. Errors: ``InvalidInput`` when it is of another type; whatever the consumer raises."""
        if message.type != self.message_type:
            raise InvalidInput(f"Consumer {self.id_} takes messages of type {self.message_type}, not {message.type}.")
        return await self._process_message(message, **kwargs)

    async def start_consuming(self) -> None:
        """Await ``consuming_callable``, which ``register_consumer`` gave."""
        await self.consuming_callable()


class CallableMessageConsumer(BaseMessageQueueConsumer):
    """Calls a function, or awaits a coroutine function, with each message."""

    handler: Callable[..., Any]

    async def _process_message(self, message: QueueMessage, **kwargs: Any) -> Any:
        answer = self.handler(message, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer


_URL: dict[str, JsonValue] = {"format": "uri", "pattern": "^https?://[^/]"}
_OPTIONS: list[JsonValue] = [msgspec.json.schema(ClientOptions)["$defs"]["ClientOptions"], {"type": "null"}]


class RemoteMessageConsumerDef(BaseModel):
    """A consumer in another process, by the URL that takes its messages."""

    id_: str = Field(default_factory=generate_id)
    message_type: str = Field(default="default", json_schema_extra={"minLength": 1, "maxLength": LONGEST_TOPIC})
    url: str = Field(default="", json_schema_extra=_URL)
    client_kwargs: dict[str, Any] | None = Field(default=None, json_schema_extra={"anyOf": _OPTIONS})


class RemoteMessageConsumer(BaseMessageQueueConsumer):
    """Posts each message as JSON to ``url``, through one pooled session; an answer other than 2xx is a failure.

    ``client_kwargs`` takes ``headers``, ``timeout`` (seconds) and ``verify``. ``client`` may be an ``HttpPool`` that
    several consumers share. Redirects are not followed.
    """

    url: str
    client_kwargs: dict[str, Any] | None = None
    client: Any = Field(default=None, exclude=True)

    _pool: HttpPool = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Take the shared pool, or make one."""
        self._pool = self.client if isinstance(self.client, HttpPool) else HttpPool(self.client_kwargs)

    async def _process_message(self, message: QueueMessage, **kwargs: Any) -> Any:
        await self.post(message)

    async def post(self, message: QueueMessage) -> None:
        """Post a message of any type. Errors: ``Unavailable``, ``TransientError``, ``ProtocolError``."""
        import aiohttp

        session = await self._pool.session()
        headers = {"content-type": "application/json"}
        try:
            body = BytesIO(encode_message(message))  # as bytes, a large one would be sent without a turn for others
            request = session.post(self.url, data=body, headers=headers, allow_redirects=False)
            async with request as response:
                if response.status not in OK:
                    text = (await response.content.read(QUOTED)).decode(errors="replace")
                    raise _refusal(self.url, response.status, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"The consumer at {self.url} does not answer: {error!r}") from error

    async def aclose(self) -> None:
        """Close the consumer's own session; a shared one is left alone."""
        if self.client is None:
            await self._pool.aclose()


def _refusal(url: str, status: int, text: str) -> ArrieroError:
    error = TransientError if status >= SERVER_ERROR or status in TRY_AGAIN else ProtocolError
    return error(f"The consumer at {url} answered {status}: {text}")
