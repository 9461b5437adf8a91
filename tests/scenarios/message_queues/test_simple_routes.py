import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI, Request, Response

from arriero.message_queues import SimpleMessageQueueConfig, SimpleMessageQueueServer
from arriero.message_queues.registrations import Retry
from arriero.types.messages import QueueMessage
from arriero.types.serving import AsgiServer, bind

LIMIT = 100_000


@pytest.fixture
async def server() -> AsyncIterator[SimpleMessageQueueServer]:
    async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=0, max_depth=3, max_message=LIMIT)) as server:
        server.queue.retry = Retry(attempts=3, first=0.01)
        yield server


@pytest.fixture
async def http(server: SimpleMessageQueueServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.as_config().base_url) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, body: Any = None) -> tuple[int, Any]:
    async with http.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def get(http: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with http.get(path) as answer:
        return answer.status, await answer.json()


def message(number: int = 0, **fields: Any) -> dict[str, Any]:
    return QueueMessage(data={"number": number}, **fields).model_dump(mode="json")


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",
        "10.0.0.1",
        "169.254.169.254",
        "0.0.0.0",  # noqa: S104  # a target here, and nothing that is bound
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "metadata.google.internal",
        "127.0.0.1@192.0.2.1",
        "localhost:80@192.0.2.1:9",
        "[::ffff:10.0.0.1]",
        "[fd00::1]",
        "[::]",
    ],
)
async def test_messages_are_posted_to_this_machine_alone(http: aiohttp.ClientSession, host: str) -> None:
    status, answer = await post(http, "/register_consumer", {"message_type": "t", "url": f"http://{host}/x"})
    assert (status, answer["error"]["code"]) == (400, "configuration")
    assert "SIMPLE_MESSAGE_QUEUE_PUSH_HOSTS" in answer["detail"]
    assert await get(http, "/get_consumers/t") == (200, [])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "[::1]", "name@127.0.0.1"])
async def test_loopback_in_any_form_may_register(http: aiohttp.ClientSession, host: str) -> None:
    assert (await post(http, "/register_consumer", {"message_type": "t", "url": f"http://{host}:9/x"}))[0] == 200


async def test_a_host_that_is_named_in_the_settings_may_register_and_is_not_shown() -> None:
    config = SimpleMessageQueueConfig(port=0, push_hosts=["Worker.example"])
    async with SimpleMessageQueueServer(config) as server, aiohttp.ClientSession(server.as_config().base_url) as http:
        named, other = (f"http://{host}.example/x" for host in ("worker", "other"))
        assert (await post(http, "/register_consumer", {"message_type": "t", "url": named}))[0] == 200
        assert (await post(http, "/register_consumer", {"message_type": "t", "url": other}))[0] == 400
    assert "push_hosts" not in config.model_dump()


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_a_body_is_json_whatever_the_request_calls_it(http: aiohttp.ClientSession, content_type: str) -> None:
    await post(http, "/topics/t")
    body = json.dumps(message(7)).encode()
    async with http.post("/messages/t", data=body, headers={"Content-Type": content_type}) as answer:
        assert answer.status == 200
    _, got = await get(http, "/messages/t")
    assert got["data"] == {"number": 7}


class Service:
    """A process that takes messages at a URL, and answers with the statuses that it is given, then 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.numbers: list[int] = []
        self.changed = asyncio.Event()
        self.app = FastAPI()
        self.app.add_api_route("/process_message", self.process, methods=["POST"])

    async def process(self, request: Request) -> Response:
        self.numbers.append((await request.json())["data"]["number"])
        self.changed.set()
        return Response(status_code=self.statuses.pop(0) if self.statuses else 200)

    async def wait_for(self, count: int) -> list[int]:
        while len(self.numbers) < count:
            self.changed.clear()
            await self.changed.wait()
        return self.numbers


async def test_home_names_the_service(http: aiohttp.ClientSession) -> None:
    about = {"service_name": "message_queue", "description": "Message queue for multi-agent system"}
    assert await get(http, "/") == (200, about)


async def test_health_and_documentation_are_there(http: aiohttp.ClientSession) -> None:
    assert await get(http, "/health") == (200, {"status": "ok"})
    status, schema = await get(http, "/openapi.json")
    assert status == 200
    assert {"/publish", "/messages/{topic}", "/register_consumer"} <= set(schema["paths"])


async def test_a_topic_is_made_as_often_as_one_likes(http: aiohttp.ClientSession) -> None:
    assert await post(http, "/topics/llama_deploy.a") == (200, None)
    assert await post(http, "/topics/llama_deploy.a") == (200, None)
    assert await get(http, "/messages/llama_deploy.a") == (200, None)


async def test_messages_are_popped_in_order_and_then_there_are_none(http: aiohttp.ClientSession) -> None:
    await post(http, "/topics/t")
    sent = [message(1), message(2)]
    for each in sent:
        assert await post(http, "/messages/t", each) == (200, None)
    assert await get(http, "/depth/t") == (200, {"depth": 2})
    assert [await get(http, "/messages/t") for _ in range(3)] == [(200, sent[0]), (200, sent[1]), (200, None)]


async def test_a_topic_that_nobody_made_is_not_found(http: aiohttp.ClientSession) -> None:
    assert await get(http, "/messages/nowhere") == (404, {"detail": "topic nowhere not found"} | ANY_ERROR)
    status, answer = await post(http, "/messages/nowhere", message())
    assert (status, answer["detail"]) == (404, "topic nowhere not found")
    status, answer = await post(http, "/publish", message(type="nowhere"))
    assert (status, answer["detail"]) == (404, "topic nowhere not found")


async def test_publish_goes_by_the_type_or_by_the_topic(
    server: SimpleMessageQueueServer, http: aiohttp.ClientSession
) -> None:
    await post(http, "/topics/a")
    await post(http, "/topics/b")
    assert await post(http, "/publish", message(1, type="a")) == (200, None)
    assert await post(http, "/publish/b", message(2, type="a")) == (200, None)
    assert await post(http, "/publish/unknown", message(3, type="a")) == (200, None)
    assert [await server.queue.depth(topic) for topic in ("a", "b", "unknown")] == [2, 1, 0]


async def test_a_full_topic_answers_429_and_when_to_come_back(http: aiohttp.ClientSession) -> None:
    await post(http, "/topics/t")
    for number in range(3):
        await post(http, "/messages/t", message(number))
    async with http.post("/messages/t", json=message()) as answer:
        assert answer.status == 429
        assert float(answer.headers["retry-after"]) > 0
        assert "max_depth" in (await answer.json())["detail"]


async def test_a_body_that_is_too_large_answers_413_and_harms_nobody(http: aiohttp.ClientSession) -> None:
    await post(http, "/topics/t")
    large = message() | {"data": {"x": "x" * (LIMIT + 100_000)}}
    status, answer = await post(http, "/messages/t", large)
    assert status == 413
    assert "limit" in answer["detail"]
    just_over = message() | {"data": {"x": "x" * LIMIT}}
    status, answer = await post(http, "/messages/t", just_over)
    assert status == 413
    assert "max_message" in answer["detail"]
    assert await get(http, "/depth/t") == (200, {"depth": 0})


async def test_a_message_that_cannot_be_read_answers_422_and_is_kept(http: aiohttp.ClientSession) -> None:
    await post(http, "/topics/t")
    status, _ = await post(http, "/messages/t", {"data": "no object"})
    assert status == 422
    status, [letter] = await get(http, "/dead_letters/t")
    assert status == 200
    assert letter["body"] == '{"data":"no object"}'
    assert "data" in letter["reason"]


async def test_a_registered_url_gets_the_messages(http: aiohttp.ClientSession) -> None:
    service = Service()
    async with AsgiServer(service.app, bind("127.0.0.1", 0)) as process:
        consumer = {"id_": "c", "message_type": "t", "url": f"{process.url}/process_message", "client_kwargs": None}
        assert await post(http, "/register_consumer", consumer) == (200, {"consumer": "c"})
        assert await get(http, "/get_consumers/t") == (200, [consumer])
        for number in range(3):
            assert await post(http, "/publish", message(number, type="t")) == (200, None)
        assert await service.wait_for(3) == [0, 1, 2]
        assert await post(http, "/deregister_consumer", consumer) == (200, None)
        assert await get(http, "/get_consumers/t") == (200, [])


async def test_a_consumer_that_refuses_gets_the_message_again_until_it_is_given_up(
    server: SimpleMessageQueueServer, http: aiohttp.ClientSession
) -> None:
    service = Service(500, 404, 200, 500, 500, 500)
    async with AsgiServer(service.app, bind("127.0.0.1", 0)) as process:
        await post(http, "/register_consumer", {"message_type": "t", "url": f"{process.url}/process_message"})
        await post(http, "/publish", message(1, type="t"))
        assert await service.wait_for(3) == [1, 1, 1]
        await post(http, "/publish", message(2, type="t"))
        await service.wait_for(6)
        await post(http, "/publish", message(3, type="t"))
        assert await service.wait_for(7) == [1, 1, 1, 2, 2, 2, 3]
    [letter] = await server.queue.dead_letters("t")
    assert "answered 500" in letter.reason


async def test_a_dead_consumer_leaves_the_messages_to_the_living(http: aiohttp.ClientSession) -> None:
    service = Service()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        async with AsgiServer(service.app, bind("127.0.0.1", 0)) as process:
            await post(http, "/register_consumer", {"message_type": "t", "url": dead})
            await post(http, "/register_consumer", {"message_type": "t", "url": f"{process.url}/process_message"})
            for number in range(20):
                while (await post(http, "/publish", message(number, type="t")))[0] == 429:
                    await service.wait_for(len(service.numbers) + 1)
            assert sorted(await service.wait_for(20)) == list(range(20))


async def test_the_same_url_or_id_registers_once_for_a_type(http: aiohttp.ClientSession) -> None:
    first = {"id_": "c", "message_type": "t", "url": "http://127.0.0.1:9/a"}
    assert (await post(http, "/register_consumer", first))[0] == 200
    assert (await post(http, "/register_consumer", first | {"id_": "d"}))[0] == 409
    assert (await post(http, "/register_consumer", first | {"url": "http://127.0.0.1:9/b"}))[0] == 409
    assert (await post(http, "/register_consumer", first | {"message_type": "u"}))[0] == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": ""},
        {"url": "file:///etc/passwd"},
        {"url": "127.0.0.1:9"},
        {"url": "http://127.0.0.1:9", "client_kwargs": {"proxy": "http://evil"}},
        {"url": "http://127.0.0.1:9", "client_kwargs": {"timeout": "long"}},
        {"url": "http://127.0.0.1:9", "message_type": ""},
        {"url": 7},
    ],
)
async def test_a_consumer_that_cannot_work_is_refused(http: aiohttp.ClientSession, wrong: dict[str, Any]) -> None:
    status, answer = await post(http, "/register_consumer", wrong)
    assert status in {400, 422}
    assert answer["detail"]


async def test_an_unknown_consumer_cannot_be_deregistered(http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, "/deregister_consumer", {"id_": "c", "message_type": "t"})
    assert status == 404
    assert "c" in answer["detail"]
    assert (await post(http, "/deregister_consumer"))[0] == 422


async def test_a_consumer_deregisters_by_query_too(http: aiohttp.ClientSession) -> None:
    await post(http, "/register_consumer", {"id_": "c", "message_type": "t", "url": "http://127.0.0.1:9/"})
    assert await post(http, "/deregister_consumer?id_=c&message_type=t") == (200, None)
    assert await get(http, "/get_consumers/t") == (200, [])


@pytest.mark.parametrize(
    "nonsense",
    [
        b'{"frame": "fly"}',
        b"[" * 100_000,
        b'[{"frame": "publish", "topic": "t", "message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
        b'[{"frame": "depth", "request": 1, "topic": "\xff"}]',
    ],
    ids=["no list", "deep", "deep message", "no text"],
)
@pytest.mark.parametrize("kind", [aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY])
async def test_frames_that_are_none_close_the_connection_and_give_back_what_it_held(
    server: SimpleMessageQueueServer,
    http: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
    kind: aiohttp.WSMsgType,
    nonsense: bytes,
) -> None:
    await server.queue.publish(QueueMessage(type="t"))
    async with http.ws_connect("/connect") as socket_:
        await socket_.send_json([{"frame": "subscribe", "request": 1, "subscription": 1, "topic": "t", "prefetch": 1}])
        assert [frame["frame"] for frame in json.loads(await socket_.receive_bytes())] == ["deliver", "answer"]
        await socket_.send_frame(nonsense, kind)
        assert (await socket_.receive()).type is aiohttp.WSMsgType.CLOSE
    subscription = await server.queue.subscribe("t")
    assert (await anext(subscription)).message.type == "t"
    assert "Traceback" not in caplog.text


async def test_a_frame_gets_a_typed_answer(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/connect") as socket_:
        await socket_.send_json(
            [
                {"frame": "subscribe", "request": 1, "subscription": 1, "topic": "t", "prefetch": 0},
                {"frame": "publish", "request": 2, "topic": "t", "message": {"data": 1}},
                {"frame": "publish", "topic": "t", "message": {"data": 2}, "transient": True},
                {"frame": "ack", "subscription": 9, "tag": 9},
                {"frame": "flush", "request": 3},
                {"frame": "letters", "request": 4, "topic": "t"},
            ]
        )
        answers = json.loads(await socket_.receive_bytes())
    assert [(answer["request"], answer.get("error", {}).get("code")) for answer in answers] == [
        (1, "invalid_input"),
        (2, "invalid_input"),
        (3, None),
        (4, None),
    ]
    assert len(answers[3]["letters"]) == 2


async def test_a_message_without_an_id_keeps_the_one_that_it_is_given(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/connect") as socket_:
        await socket_.send_json(
            [
                {"frame": "publish", "request": 1, "topic": "t", "message": {"data": {}}},
                {"frame": "subscribe", "request": 2, "subscription": 1, "topic": "t", "prefetch": 1},
            ]
        )
        answers = json.loads(await socket_.receive_bytes())
    [delivery] = [frame for frame in answers if frame["frame"] == "deliver"]
    assert delivery["message"]["id_"]


ANY_ERROR = {"error": {"code": "not_found", "message": "topic nowhere not found", "type": "NotFound"}}
