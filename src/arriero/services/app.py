"""A service's own routes."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from arriero.types.described import guarded
from arriero.types.errors import ArrieroError
from arriero.types.messages import QueueMessage
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

    @app.post("/process_message")
    async def process_message(message: QueueMessage) -> None:
        """Take a documented message."""
        await service.take(message)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        """Whether it is connected to its control plane."""
        is_ready = service.ready.is_set()
        return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)

    app.openapi = guarded(app.openapi)  # type: ignore[method-assign]  # the way that FastAPI documents
    return app
