import json
from typing import Any

import pytest

from arriero.types.access import Access
from arriero.types.guard import Guard
from arriero.types.tokens import Scope, Tokens

READ, RUN = "reader-5f0c9be2a7d1", "runner-5f0c9be2a7d1"
TOKENS = Tokens([(Scope.READ, READ), (Scope.RUN, RUN)], configured=True)
HERE = "127.0.0.1"
EVIL = "http://evil.example"


class Server:
    """A guarded application that says whether it was reached."""

    def __init__(self, access: Access, kind: str = "http") -> None:
        self.reached = False
        self._guard = Guard(self._app, access, lambda scope: Scope.READ if scope.get("method") == "GET" else Scope.RUN)
        self._kind = kind

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached = True

    async def ask(self, *headers: tuple[str, str], method: str = "GET", path: str = "/x") -> Any:
        """The status of the refusal with its headers and error, or 200 when the application was reached."""
        self.reached, sent = False, []

        async def send(event: Any) -> None:
            sent.append(event)

        async def receive() -> Any:
            raise AssertionError("nothing of the body may be read")

        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        scope: dict[str, Any] = {"type": self._kind, "path": path, "headers": raw}
        if self._kind == "http":
            scope["method"] = method
        else:
            scope["extensions"] = {"websocket.http.response": {}}
        await self._guard(scope, receive, send)
        if not sent:
            assert self.reached
            return 200, {}, {}
        assert not self.reached
        start, body = sent
        return start["status"], dict(start["headers"]), json.loads(body["body"])["error"]


def local(tokens: Tokens | None = None, **more: Any) -> Access:
    return Access.to(Tokens() if tokens is None else tokens, HERE, HERE, **more)


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


HOST = ("Host", "localhost:8000")


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.8.8.8:65535",
        "[::1]",
        "[::1]:8000",
        "core.example:80",
    ],
)
async def test_a_server_of_this_machine_is_asked_by_its_own_names(kind: str, host: str) -> None:
    server = Server(local(allowed=["Core.Example"]), kind)
    for _ in range(2):  # the second time it is remembered
        assert (await server.ask(("Host", host)))[0] == 200


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("path", ["/x", "/health"])
@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("",),
        ("evil.example",),
        ("evil.example:8000",),
        ("localhost.evil.example",),
        ("localhost/health?",),
        ("a#",),
        ("127.0.0.1:8000@evil",),
        ("evil@127.0.0.1",),
        ("127.0.0.1:8000:8000",),
        ("127.0.0.1:",),
        ("127.0.0.1 ",),
        ("2130706433",),
        ("0.0.0.0",),  # noqa: S104  # it is refused
        ("0x7f000001",),
        ("[::ffff:127.0.0.1]",),
        ("[::1",),
        ("localhost.",),
        ("localhost\tx",),
        ("l\xf6calhost",),
        ("x" * 100_000,),
        ("localhost", "localhost"),
        ("localhost", "evil.example"),
    ],
)
async def test_any_other_host_is_refused_on_every_path(kind: str, path: str, hosts: tuple[str, ...]) -> None:
    server = Server(local(TOKENS), kind)
    status, _, error = await server.ask(*(("Host", host) for host in hosts), bearer(RUN), path=path)
    assert (status, error["code"]) == (421, "misdirected")


async def test_what_is_forwarded_changes_nothing() -> None:
    server = Server(local())
    forwarded = [("X-Forwarded-Host", "localhost"), ("Forwarded", "host=localhost"), ("X-Forwarded-Prefix", "/health")]
    assert (await server.ask(("Host", "evil.example"), *forwarded))[0] == 421
    assert (await server.ask(HOST, ("X-Forwarded-Host", "evil.example")))[0] == 200


async def test_beyond_loopback_any_name_will_do_unless_names_are_given() -> None:
    anywhere = "0.0.0.0"  # noqa: S104  # nothing is bound
    assert (await Server(Access.to(TOKENS, anywhere, HERE)).ask(("Host", "any.example"), bearer(READ)))[0] == 200
    assert (await Server(Access.to(TOKENS, anywhere, HERE)).ask(("Host", "a b"), bearer(READ)))[0] == 421
    named = Server(Access.to(TOKENS, anywhere, "core.example", ["other.example"]))
    for host, status in (("core.example", 200), ("other.example:8000", 200), ("any.example", 421)):
        assert (await named.ask(("Host", host), bearer(READ)))[0] == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "null",
        "",
        "http://localhost:3000",
        "http://127.0.0.1:8000",
        "http://localhost:8000.evil.example",
        "http://localhost:8000/",
        "http://x@localhost:8000",
        "file://localhost:8000",
        "localhost:8000",
        "://localhost:8000",
    ],
)
async def test_web_pages_of_elsewhere_are_refused_with_every_method(method: str, origin: str) -> None:
    asking = ("Access-Control-Request-Method", "DELETE")
    status, headers, error = await Server(local()).ask(HOST, ("Origin", origin), asking, method=method)
    assert (status, error["code"]) == (403, "forbidden")
    assert b"access-control-allow-origin" not in headers


async def test_web_pages_of_elsewhere_open_no_connection() -> None:
    for origin in (EVIL, "null"):
        assert (await Server(local(), "websocket").ask(HOST, ("Origin", origin)))[0] == 403
    assert (await Server(local(), "websocket").ask(HOST, ("Origin", "http://localhost:8000")))[0] == 200


async def test_own_pages_and_configured_ones_may_ask() -> None:
    server = Server(local(origins=["http://page.example"]))
    for origin in ("http://localhost:8000", "https://LOCALHOST:8000", "http://page.example"):
        assert (await server.ask(HOST, ("Origin", origin)))[0] == 200
    assert (await server.ask(HOST, ("Origin", "http://page.example"), ("Origin", "http://page.example")))[0] == 403
    assert (await Server(local(origins=["*"])).ask(HOST, ("Origin", EVIL)))[0] == 200


async def test_a_configured_page_may_ask_whether_it_may_ask_and_reads_why_it_was_refused() -> None:
    server = Server(local(TOKENS, origins=["http://page.example"]))
    page, asking = ("Origin", "http://page.example"), ("Access-Control-Request-Method", "POST")
    assert (await server.ask(HOST, page, asking, method="OPTIONS"))[0] == 200
    assert (await server.ask(HOST, page, method="OPTIONS"))[0] == 401
    assert (await server.ask(HOST, asking, method="OPTIONS"))[0] == 401
    status, headers, _ = await server.ask(HOST, page, asking, method="POST")
    assert (status, headers[b"access-control-allow-origin"]) == (401, b"http://page.example")


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_without_a_token_nothing_is_reached_and_the_answer_says_what_is_needed(kind: str) -> None:
    status, headers, error = await Server(local(TOKENS), kind).ask(HOST)
    assert (status, error["code"]) == (401, "unauthorized")
    assert headers[b"www-authenticate"] == b'Bearer realm="arriero"'


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Bearer nonsense", f"Basic {RUN}", RUN, "Bearer " + "x" * 10**6]
)
async def test_a_wrong_token_is_refused_and_not_repeated(value: str) -> None:
    status, headers, error = await Server(local(TOKENS)).ask(HOST, ("Authorization", value))
    assert status == 401
    assert headers[b"www-authenticate"] == b'Bearer realm="arriero", error="invalid_token"'
    assert "nonsense" not in str(error)
    assert RUN not in str(error)


async def test_two_tokens_are_no_token() -> None:
    assert (await Server(local(TOKENS)).ask(HOST, bearer(RUN), bearer(READ)))[0] == 401


async def test_a_token_opens_its_scope_and_those_before_it() -> None:
    server = Server(local(TOKENS))
    assert (await server.ask(HOST, bearer(READ)))[0] == 200
    assert (await server.ask(HOST, bearer(RUN)))[0] == 200
    assert (await server.ask(HOST, bearer(RUN), method="POST"))[0] == 200
    status, _, error = await server.ask(HOST, bearer(READ), method="POST")
    assert (status, error["code"], error["details"]) == (403, "forbidden", {"needs": "run"})
    assert "run" in error["message"]
    assert "read" in error["message"]


async def test_only_health_needs_no_token() -> None:
    server = Server(local(TOKENS))
    assert (await server.ask(HOST, path="/health"))[0] == 200
    assert (await server.ask(HOST, path="/health", method="POST"))[0] == 401
    for path in ("/health/", "//health", "/health/../x", "/Health", "/healthy", "/"):
        assert (await server.ask(HOST, path=path))[0] == 401


async def test_without_tokens_any_authorization_will_do() -> None:
    assert (await Server(local()).ask(HOST, bearer("whatever"), method="DELETE"))[0] == 200


async def test_a_server_that_cannot_answer_a_handshake_closes_it() -> None:
    sent = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    guard = Guard(app, local(TOKENS), lambda scope: Scope.READ)
    await guard({"type": "websocket", "path": "/", "headers": [(b"host", b"localhost")]}, None, send)  # type: ignore[arg-type]  # never received from
    assert sent == [{"type": "websocket.close", "code": 1008}]
