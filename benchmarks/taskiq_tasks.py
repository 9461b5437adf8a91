"""The tasks of Taskiq, for its worker and for its client, on the Redis and under the prefix of the environment."""

from __future__ import annotations

import os

from noop import NoOp, noop
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["BENCH_REDIS"]
PREFIX = os.environ["BENCH_PREFIX"]

broker = RedisStreamBroker(
    URL,
    queue_name=f"{PREFIX}:queue",
    consumer_group_name=f"{PREFIX}:group",
    consumer_id="0",
    maxlen=10_000,
).with_result_backend(RedisAsyncResultBackend(URL, keep_results=False, result_ex_time=60, prefix_str=PREFIX))

function = broker.register_task(noop, task_name="function")
_workflow = NoOp()


@broker.task(task_name="workflow")
async def workflow(x: int) -> int:
    return await _workflow.run(x=x)
