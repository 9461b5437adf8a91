import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "asyncio",
    "click",
    "fastapi",
    "msgspec",
    "opentelemetry",
    "pydantic",
    "pydantic_settings",
    "rich",
    "starlette",
    "uvicorn",
    "websockets",
    "workflows",
    "yaml",
}
SERVER = {"fastapi", "starlette", "uvicorn"}


def modules_after(statement: str) -> set[str]:
    """The modules that an interpreter holds after the statement and did not hold before it."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    command = [sys.executable, "-c", script]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_the_package_loads_nothing_of_its_rooms() -> None:
    assert {name for name in modules_after("import arriero") if name.startswith("arriero")} == {"arriero"}


def test_importing_the_package_loads_no_library() -> None:
    modules = modules_after("import arriero")
    assert roots(modules) & HEAVY == set()
    assert len(modules) <= len(modules_after("import typing")) + 1


def test_an_error_class_loads_neither_models_nor_servers() -> None:
    loaded = roots(modules_after("from arriero import ArrieroError"))
    assert loaded & HEAVY == {"msgspec"}


@pytest.mark.parametrize("name", ["AsyncLlamaDeployClient", "Client", "LlamaDeployClient"])
def test_the_client_loads_no_server_and_no_engine(name: str) -> None:
    loaded = roots(modules_after(f"from arriero import {name}"))
    assert loaded & (SERVER | {"workflows", "llama_index"}) == set()
