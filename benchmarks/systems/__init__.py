"""The systems that are measured, in the order of the page."""

from __future__ import annotations

from systems import engine, llama_agents, ours, taskiq_redis
from systems.base import System

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        engine.ALONE,
        ours.TOGETHER,
        ours.APART,
        ours.FUNCTION,
        llama_agents.SQLITE,
        taskiq_redis.WORKFLOW,
        taskiq_redis.FUNCTION,
    )
}
