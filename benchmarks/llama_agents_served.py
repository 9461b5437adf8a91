"""llama-agents-server with the workflow: ``python llama_agents_served.py PORT DATABASE``."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from llama_agents.server import SqliteWorkflowStore, WorkflowServer
from noop import NoOp


def main(port: str, database: str) -> None:
    server = WorkflowServer(workflow_store=SqliteWorkflowStore(database))
    server.add_workflow("noop", NoOp())
    quiet = {"log_level": "warning", "access_log": False}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve("127.0.0.1", int(port), quiet))


if __name__ == "__main__":
    main(*sys.argv[1:])
