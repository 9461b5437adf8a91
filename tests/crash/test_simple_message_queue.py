"""The server is killed while a client consumes."""

import asyncio
import sys
from contextlib import closing

from arriero.message_queues import SimpleMessageQueue
from arriero.types.errors import QueueUnavailable
from arriero.types.messages import QueueMessage
from arriero.types.serving import bind

SERVER = """
import asyncio, sys
from arriero.message_queues import SimpleMessageQueueConfig, SimpleMessageQueueServer

async def main():
    async with SimpleMessageQueueServer(SimpleMessageQueueConfig(port=int(sys.argv[1]))):
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def start_server(port: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    return process


async def kill(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


async def publish_until_told_so(queue: SimpleMessageQueue, message: QueueMessage) -> None:
    while True:
        try:
            await queue.publish(message)
        except QueueUnavailable:
            continue
        return


async def test_consumption_resumes_when_a_killed_server_is_back() -> None:
    with closing(bind("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    async with SimpleMessageQueue(port=port) as consumer_queue, SimpleMessageQueue(port=port) as queue:
        server = await start_server(port)
        subscription = await consumer_queue.subscribe("t", prefetch=10)
        numbers: set[int] = set()
        for life in range(3):
            for number in range(50):
                await queue.publish(QueueMessage(type="t", data={"number": life * 100 + number}))
            for _ in range(25):
                delivery = await anext(subscription)
                numbers.add(delivery.message.data["number"])
                await delivery.ack()
            await kill(server)
            last = QueueMessage(type="t", data={"number": life * 100 + 99})
            publishing = asyncio.ensure_future(publish_until_told_so(queue, last))
            server = await start_server(port)
            await publishing
            while life * 100 + 99 not in numbers:
                delivery = await anext(subscription)
                numbers.add(delivery.message.data["number"])
                await delivery.ack()
        await kill(server)
    assert numbers >= {life * 100 + number for life in range(3) for number in (*range(25), 99)}
