"""The guard before every server: who asks, by which name and from which web page, before anything is parsed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from arriero.types.access import Access
from arriero.types.errors import Forbidden, Misdirected, Refused, Unauthorized
from arriero.types.serving import ASGIApp, Receive, Send
from arriero.types.tokens import Scope

#: What the request needs; it is asked for each, so that a route that nobody thought of is closed.
Needs = Callable[[Any], Scope]

#: The one path that never needs a token: it says that the process lives, and nothing else.
OPEN = "/health"
READING = ("GET", "HEAD")
#: Hosts that were right and are known again.
REMEMBERED = 256


class Guard:
    """Wraps an application: what may not pass is answered here, with nothing of it parsed."""

    def __init__(self, app: ASGIApp, access: Access, needs: Needs) -> None:
        self._app = app
        self._access = access
        self._needs = needs
        self._hosts: set[bytes] = set()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            try:
                self._check(scope, *_headers(scope))
            except Refused as error:
                await _refuse(scope, send, error, self._cross(scope))
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Any, host: bytes | None, origin: bytes | None, authorization: bytes | None) -> None:
        """Errors: ``Misdirected``, ``Forbidden``, ``Unauthorized``."""
        if host is None or (host not in self._hosts and not self._is_ours(host)):
            raise Misdirected(
                "the Host header names no server that is here; if this one has that name, say so in "
                "CONTROL_PLANE_ALLOWED_HOSTS"
            )
        if origin is not None:
            self._check_origin(origin, host)
            if self._is_preflight(scope, origin):
                return
        if not self._access.tokens or (scope["path"] == OPEN and scope.get("method") in READING):
            return
        if authorization is None:
            raise Unauthorized("a bearer token is needed; set ARRIERO_TOKEN for clients and workers of Arriero")
        granted = self._access.tokens.scope_of(authorization)
        if granted is None:
            raise Unauthorized("the bearer token is not known here", known=False)
        needed = self._needs(scope)
        if granted < needed:
            raise Forbidden(
                f"this needs a token with the scope {needed.word}; the one that was sent has {granted.word}",
                needs=needed.word,
            )

    def _is_ours(self, host: bytes) -> bool:
        if not self._access.takes_host(host.decode("latin-1")):
            return False
        if len(self._hosts) < REMEMBERED:
            self._hosts.add(host)
        return True

    def _check_origin(self, origin: bytes, host: bytes) -> None:
        if not self._access.takes_origin(origin.decode("latin-1"), host.decode("latin-1")):
            raise Forbidden("a web page of another origin may not ask; CONTROL_PLANE_CORS_ORIGINS lists those that may")

    def _is_preflight(self, scope: Any, origin: bytes) -> bool:
        """A browser's question whether it may ask, which carries no token and reaches no route."""
        if scope.get("method") != "OPTIONS" or not self._access.is_foreign(origin.decode("latin-1")):
            return False
        return any(name == b"access-control-request-method" for name, _ in scope["headers"])

    def _cross(self, scope: Any) -> list[tuple[bytes, bytes]]:
        """What lets a web page of a configured origin read why it was refused."""
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if len(origins) != 1 or not self._access.is_foreign(origins[0].decode("latin-1")):
            return []
        return [(b"access-control-allow-origin", origins[0]), (b"vary", b"Origin")]


def _headers(scope: Any) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Host, Origin and Authorization. None of them may stand twice: others might read the other one."""
    host = origin = authorization = None
    for name, value in scope["headers"]:
        if name == b"host":
            if host is not None:
                raise Misdirected("the request has more than one Host header")
            host = value
        elif name == b"authorization":
            if authorization is not None:
                raise Unauthorized("the request has more than one Authorization header")
            authorization = value
        elif name == b"origin":
            if origin is not None:
                raise Forbidden("the request has more than one Origin header")
            origin = value
    return host, origin, authorization


async def _refuse(scope: Any, send: Send, error: Refused, extra: list[tuple[bytes, bytes]]) -> None:
    body = msgspec.json.encode({"detail": error.message, "error": error.info()})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
    if isinstance(error, Unauthorized):
        challenge = b'Bearer realm="arriero"' + (b', error="invalid_token"' if "known" in error.details else b"")
        headers.append((b"www-authenticate", challenge))
    prefix = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        prefix = "websocket.http"
    await send({"type": f"{prefix}.response.start", "status": error.status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})


def deploy_alone(_: Any) -> Scope:
    """For servers whose every route is for parts of the system."""
    return Scope.DEPLOY
