"""FastAPI routes that read JSON as strictly as everything else here does, and say what is wrong in one form."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from arriero.types.errors import ArrieroError, ErrorInfo, InvalidInput
from arriero.types.jsonvalue import MAX_DEPTH, is_deep
from arriero.types.serving import error_bytes

_encode = msgspec.json.Encoder(enc_hook=str).encode
_PARAMETER = re.compile(r"{\w+}")
#: How many faults of a request its error names.
SHOWN = 5


class StrictRequest(Request):
    """A request whose JSON holds no NaN, no lone surrogate, no endless number, and nothing that lies too deep."""

    async def json(self) -> Any:
        """The body; anything else than JSON is a ``JSONDecodeError`` that says why."""
        body = await self.body()
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
            raise json.JSONDecodeError(reason, body.decode("utf-8", "replace"), 0) from error
        if is_deep(value, body):
            text = body.decode("utf-8", "replace")
            raise json.JSONDecodeError(f"it is nested more than {MAX_DEPTH} levels deep", text, 0)
        return value


class StrictRoute(APIRoute):
    """A route whose body is read so, and whose query says each thing once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given a request of ours."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            check_query(request.scope["query_string"])
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


def check_query(query: bytes) -> None:
    """:class:`InvalidInput` for a parameter that is given more than once: it cannot be told which value is meant."""
    if b"&" not in query:
        return
    names = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    name, count = names.most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise InvalidInput(f"the query gives {name[:80]!r} {count} times; give it once")


async def typed(_: Request, error: Exception) -> Response:
    """The answer to a request that an error of ours ended."""
    assert isinstance(error, ArrieroError)  # registered for this class
    return error_answer(error)


def error_answer(error: ArrieroError) -> Response:
    """An error as a response."""
    status, body, headers = error_bytes(error)
    named = {name.decode(): value.decode() for name, value in headers}
    return Response(body, status, named, media_type="application/json")


async def invalid(_: Request, error: Exception) -> Response:
    """The answer to a request that is not of the form described."""
    assert isinstance(error, RequestValidationError)  # registered for this class
    faults = [{key: fault[key] for key in ("type", "loc", "msg")} for fault in error.errors()]
    where = "; ".join(map(_told, error.errors()[:SHOWN]))
    info = ErrorInfo(code="invalid_input", type="InvalidInput", message=f"the request is wrong: {where}")
    return Response(_encode({"detail": faults, "error": info}), 422, media_type="application/json")


def _told(fault: dict[str, Any]) -> str:
    reason = fault.get("ctx", {}).get("error")
    why = f" ({reason})" if isinstance(reason, str) else ""
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}{why}"


async def unserved(request: Request, error: Exception) -> Response:
    """The answer where there is no such route, or no such method of it: then ``Allow`` names those of all routes."""
    assert isinstance(error, HTTPException)  # registered for this class
    is_missing = error.status_code == 404  # noqa: PLR2004  # the status is its own name
    headers = dict(error.headers or {})
    if "Allow" in headers and (methods := _methods(request)):
        headers["Allow"] = ", ".join(sorted(methods))
    info = ErrorInfo(
        code="not_found" if is_missing else "invalid_input",
        type="NotFound" if is_missing else "InvalidInput",
        message=str(error.detail),
    )
    body = _encode({"detail": error.detail, "error": info})
    return Response(body, error.status_code, headers, media_type="application/json")


def _methods(request: Request) -> set[str]:
    """The methods that the path has, on whichever of its routes."""
    paths = request.app.openapi()["paths"]
    like = [path for path in paths if re.fullmatch(_PARAMETER.sub(".+", path), request.scope["path"])]
    return {method.upper() for method in paths[max(like, key=_said)]} if like else set()


def _said(path: str) -> int:
    """How much a path says besides its parameters: of two that a request is like, the one that says more is meant."""
    return len(_PARAMETER.sub("", path))
