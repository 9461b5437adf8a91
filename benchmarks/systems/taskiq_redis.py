"""Taskiq on a Redis stream, results in Redis, one worker process, tuned as its user would."""

from __future__ import annotations

import importlib.util
import os
import uuid
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path

from load import LANES
from processes import Processes

from systems.base import Lanes, System

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/15")
#: How often a client looks for its result, in seconds. The library's own 0.2 is more than the work takes; looking more
#: often than this costs more at 64 in flight than it saves one call.
LOOK = 0.005


@cache
def absent() -> str:
    if not (importlib.util.find_spec("taskiq") and importlib.util.find_spec("taskiq_redis")):
        return "not installed"
    import redis

    try:
        with closing(redis.Redis.from_url(URL)) as connection:
            connection.ping()
    except redis.RedisError as error:
        return f"no Redis: {error}"
    return ""


@cache
def servers() -> dict[str, int]:
    """The Redis, when it runs on this machine."""
    import redis

    with closing(redis.Redis.from_url(URL)) as connection:
        pid = int(connection.info("server")["process_id"])
    name = Path(f"/proc/{pid}/comm")
    return {"redis": pid} if name.is_file() and name.read_text().startswith("redis") else {}


def start(processes: Processes) -> str:
    prefix = f"bench-{uuid.uuid4().hex}"
    worker = ("worker", "taskiq_tasks:broker", "--workers", "1", "--max-async-tasks", str(LANES))
    arguments = ("-m", "taskiq", *worker, "--max-prefetch", str(LANES), "--log-level", "WARNING")
    processes.start("worker", *arguments, BENCH_REDIS=URL, BENCH_PREFIX=prefix, PYTHONPATH=".")
    processes.callback(lambda: remove(prefix))
    return prefix


def remove(prefix: str) -> None:
    """Everything that was stored under the prefix."""
    import redis

    with closing(redis.Redis.from_url(URL)) as connection:
        for key in connection.scan_iter(f"*{prefix}*", count=1000):
            connection.delete(key)


@asynccontextmanager
async def lanes(prefix: str, count: int, task: str) -> Lanes:
    os.environ.update(BENCH_REDIS=URL, BENCH_PREFIX=prefix)
    import taskiq_tasks

    asked = getattr(taskiq_tasks, task)

    async def call() -> None:
        sent = await asked.kiq(x=1)
        result = await sent.wait_result(check_interval=LOOK, timeout=10)
        assert result.return_value == 1, result

    await taskiq_tasks.broker.startup()
    yield [call] * count
    await taskiq_tasks.broker.shutdown()


def _system(task: str, title: str) -> System:
    return System(
        f"taskiq-{task}",
        f"Taskiq on a Redis stream, {title}",
        "at least once, in Redis' memory",
        start,
        lambda address, count: lanes(address, count, task),
        absent=absent,
        servers=servers,
    )


WORKFLOW = _system("workflow", "the same workflow")
FUNCTION = _system("function", "a function")
