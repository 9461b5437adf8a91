"""The HTTP face of the simple message queue server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from arriero.message_queues.consumers import RemoteMessageConsumerDef
from arriero.message_queues.encoding import decode_message, encode_message
from arriero.message_queues.memory import MemoryMessageQueue
from arriero.message_queues.simple.peer import Peer
from arriero.message_queues.simple.pushing import Pushers
from arriero.types.described import guarded, json_body, refusals
from arriero.types.errors import ArrieroError, InvalidInput, NotFound
from arriero.types.messages import QueueMessage
from arriero.types.serving import Faults, JSONBodies
from arriero.types.strict import StrictRoute, invalid, typed, unserved

#: What publishing may be answered with; a name with line ends in it is no topic's.
_PUBLISHED = refusals(404, 429, 503)
_WITH_URL = {"required": ["url"]}


def make_app(queue: MemoryMessageQueue, pushers: Pushers) -> FastAPI:
    """The application of a server."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pushers.running():
            yield

    async def keep_unreadable(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if topic := request.path_params.get("topic"):
            queue.bury(topic, msgspec.json.encode(error.body, enc_hook=str), str(error.errors()))
        return await invalid(request, error)

    app = FastAPI(title="Arriero message queue", lifespan=lifespan)
    app.include_router(_about())
    app.include_router(_consumers(pushers))
    app.include_router(_publishing(queue))
    app.include_router(_topics(queue))
    app.add_middleware(Faults)
    app.add_middleware(JSONBodies)
    app.add_exception_handler(ArrieroError, typed)
    app.add_exception_handler(RequestValidationError, keep_unreadable)
    app.add_exception_handler(HTTPException, unserved)

    @app.websocket("/connect")
    async def connect(websocket: WebSocket) -> None:
        await Peer(queue, websocket).run()

    app.openapi = guarded(app.openapi)  # type: ignore[method-assign]  # the way that FastAPI documents
    return app


def _about() -> APIRouter:
    router = APIRouter(route_class=StrictRoute)

    @router.get("/")
    async def home() -> dict[str, str]:
        return {"service_name": "message_queue", "description": "Message queue for multi-agent system"}

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return router


def _consumers(pushers: Pushers) -> APIRouter:
    router = APIRouter(route_class=StrictRoute)

    @router.post("/register_consumer", responses=refusals(400, 409, 503), openapi_extra=json_body(_WITH_URL))
    async def register_consumer(consumer_def: RemoteMessageConsumerDef) -> dict[str, str]:
        pushers.add(consumer_def)
        return {"consumer": consumer_def.id_}

    @router.post("/deregister_consumer", responses=refusals(404))
    async def deregister_consumer(
        consumer_def: RemoteMessageConsumerDef | None = None, id_: str | None = None, message_type: str = "default"
    ) -> None:
        if consumer_def is not None:
            id_, message_type = consumer_def.id_, consumer_def.message_type
        if id_ is None:
            raise InvalidInput("Say which consumer: a body with id_ and message_type, or these two in the query.")
        await pushers.remove(message_type, id_)

    @router.get("/get_consumers/{message_type:path}", responses=refusals(404))
    async def get_consumers(message_type: str) -> list[RemoteMessageConsumerDef]:
        """Those that registered a URL, without the headers that they are sent, which may hold credentials."""
        return [_shown(consumer) for consumer in pushers.of(message_type)]

    return router


def _shown(consumer: RemoteMessageConsumerDef) -> RemoteMessageConsumerDef:
    kwargs = {name: value for name, value in (consumer.client_kwargs or {}).items() if name != "headers"}
    return consumer.model_copy(update={"client_kwargs": kwargs or None})


def _publishing(queue: MemoryMessageQueue) -> APIRouter:
    router = APIRouter(route_class=StrictRoute)

    def put(message: QueueMessage, *topics: str) -> None:
        """Put a message on the first of the topics that exists."""
        for topic in topics:
            if queue.has_topic(topic):
                queue.put(encode_message(message), topic)
                return
        raise NotFound(f"topic {topics[0]} not found")

    @router.post("/publish", responses=_PUBLISHED)
    async def publish(message: QueueMessage) -> None:
        put(message, message.type)

    @router.post("/publish/{topic:path}", responses=_PUBLISHED)
    async def publish_to_topic(topic: str, message: QueueMessage) -> None:
        put(message, topic, message.type)

    @router.post("/messages/{topic:path}", responses=_PUBLISHED)
    async def post_message(topic: str, message: QueueMessage) -> None:
        put(message, topic)

    return router


def _topics(queue: MemoryMessageQueue) -> APIRouter:
    router = APIRouter(route_class=StrictRoute)

    @router.post("/topics/{topic:path}", responses=refusals(404, 429, 503))
    async def create_topic(topic: str) -> None:
        queue.topic(topic)

    @router.get("/messages/{topic:path}", responses=refusals(404))
    async def get_message(topic: str) -> QueueMessage | None:
        if not queue.has_topic(topic):
            raise NotFound(f"topic {topic} not found")
        body = queue.topic(topic).pop()
        return None if body is None else decode_message(body)

    @router.get("/depth/{topic:path}", responses=refusals(404))
    async def get_depth(topic: str) -> dict[str, int]:
        return {"depth": queue.depth_of(topic)}

    @router.get("/dead_letters/{topic:path}", responses=refusals(404))
    async def get_dead_letters(topic: str) -> list[dict[str, Any]]:
        return [
            {"topic": letter.topic, "reason": letter.reason, "body": letter.body.decode(errors="replace")}
            for letter in queue.dead_letters_of(topic)
        ]

    return router
