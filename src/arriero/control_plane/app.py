"""The ASGI application of a control plane."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from arriero.control_plane.answers import NEXT
from arriero.control_plane.hot import Hot
from arriero.control_plane.link_server import link_routes
from arriero.control_plane.openapi import add_hot_routes
from arriero.control_plane.past import changed_routes, dead_routes, past_routes
from arriero.control_plane.routes import home_routes, service_routes, session_routes, task_routes
from arriero.core.core import Core
from arriero.types.errors import ArrieroError
from arriero.types.serving import Faults, JSONBodies
from arriero.types.strict import invalid, typed, unserved


def make_app(core: Core, queue_config: Callable[[], BaseModel] | None) -> FastAPI:
    """The documented routes over a core; the hot ones come first. ``queue_config`` gives what others connect by."""
    app = FastAPI(title="Arriero control plane", version=importlib.metadata.version("arriero"))
    app.router.routes[:0] = [*Hot(core).routes(), *link_routes(core)]
    for routes in (home_routes(core, queue_config), service_routes(core), session_routes(core), task_routes(core)):
        app.include_router(routes)
    for routes in (past_routes(core), changed_routes(core), dead_routes(core)):
        app.include_router(routes)
    app.add_exception_handler(ArrieroError, typed)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unserved)
    add_hot_routes(app)
    app.add_middleware(Faults)
    app.add_middleware(JSONBodies)
    origins = core.kernel.config.cors_origins
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "Last-Event-ID",
                "traceparent",
                "tracestate",
            ],
            expose_headers=["Retry-After", NEXT],
        )
    return app
