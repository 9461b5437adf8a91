"""A service's own routes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from arriero.core.described import message, task_message
from arriero.types.described import guarded, refusals
from arriero.types.errors import ArrieroError
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.serving import Faults, JSONBodies
from arriero.types.strict import StrictRoute, invalid, typed, unserved

if TYPE_CHECKING:
    from arriero.services.base import BaseService


def service_app(service: BaseService) -> FastAPI:
    """``GET /``, ``POST /process_message``, ``GET /health`` and ``GET /ready``."""
    app = FastAPI(title=service.service_name, version=importlib.metadata.version("arriero"))
    app.router.route_class = StrictRoute
    app.add_middleware(Faults)
    app.add_middleware(JSONBodies)
    app.add_exception_handler(ArrieroError, typed)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unserved)

    @app.get("/")
    async def home() -> dict[str, str]:
        """What the service is and does."""
        return await service.home()

    @app.post("/process_message", responses=refusals(404, 409, 429, 503))
    async def process_message(message: QueueMessage) -> None:
        """Take a documented message."""
        await service.take(message)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/ready", responses={503: {"description": "It is not connected."}})
    async def ready() -> Response:
        """Whether it is connected to its control plane."""
        is_ready = service.ready.is_set()
        return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)

    app.openapi = guarded(_with_messages(app.openapi))  # type: ignore[method-assign]  # the way that FastAPI documents
    return app


def _with_messages(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """A description that says which messages are taken: those with a task."""

    def openapi() -> dict[str, Any]:
        schema = make()
        task = task_message()
        for name in ("service_id", "agent_id"):  # the service is this one, whatever the task names
            del task["properties"][name]
        del task["anyOf"]
        shape = message({ActionTypes.NEW_TASK: task})
        schema["paths"]["/process_message"]["post"]["requestBody"]["content"]["application/json"]["schema"] = shape
        return schema

    return openapi
