"""Where and of what the figures were taken."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from processes import HERE

PACKAGES = (
    "arriero",
    "llama-index-workflows",
    "llama-agents-server",
    "taskiq",
    "taskiq-redis",
    "redis",
    "aiohttp",
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
    "msgspec",
    "pydantic",
)


def facts() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "commit": _commit(),
    }


def versions(redis_url: str) -> dict[str, str]:
    found = {name: _version(name) for name in PACKAGES}
    return {**found, "SQLite": sqlite3.sqlite_version, "Redis": _redis(redis_url)}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", "../src")
    return f"{commit}, with changes" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _redis(url: str) -> str:
    try:
        import redis
    except ImportError:
        return "no driver"
    try:
        with closing(redis.Redis.from_url(url)) as connection:
            version = connection.info("server")["redis_version"]
            kept = connection.config_get("appendonly")["appendonly"] == "yes"
    except redis.RedisError:
        return "not there"
    return f"{version}, {'with' if kept else 'without'} an append-only file"
