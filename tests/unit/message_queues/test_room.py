import subprocess
import sys

import pytest

import arriero.message_queues as room


def loaded(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize("name", room.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(room, name).__name__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchQueue"):
        getattr(room, "NoSuchQueue")  # noqa: B009 as an attribute the type checker would refuse it


@pytest.mark.parametrize(
    "statement",
    [
        "import arriero.message_queues",
        "from arriero.message_queues import MemoryMessageQueue, CallableMessageConsumer, RemoteMessageConsumer",
        "import arriero.message_queues as room; room.queue_from_config(room.MemoryMessageQueueConfig())",
    ],
)
def test_the_queue_in_memory_loads_no_other_and_no_network_library(statement: str) -> None:
    modules = loaded(statement)
    assert not {name for name in modules if name.startswith("arriero.message_queues.simple")}
    assert not modules & {"aiohttp", "fastapi", "starlette", "uvicorn", "websockets"}


@pytest.mark.parametrize("name", ["SimpleMessageQueue", "SimpleMessageQueueConfig", "SimpleMessageQueueServer"])
def test_the_simple_queue_loads_servers_and_clients_only_when_they_run(name: str) -> None:
    modules = loaded(f"from arriero.message_queues import {name} as used; used()")
    assert not modules & {"aiohttp", "fastapi", "starlette", "uvicorn", "websockets"}
