"""What a service asks of its control plane beside its link."""

from __future__ import annotations

from typing import Any

import msgspec

from arriero.client import requests
from arriero.client.caller import AsyncCaller
from arriero.client.trouble import shown
from arriero.types.errors import UnknownSession
from arriero.types.messages import ActionTypes, QueueMessage
from arriero.types.services import ServiceDefinition
from arriero.types.settings import ControlPlaneConfig
from arriero.types.tasks import TaskDefinition

#: Seconds for which a running service tries to reach its control plane.
PATIENCE = 30.0


class ControlPlaneCalls:
    """Calls to one control plane. Those of the start wait for it as long as it takes: parts start in any order."""

    def __init__(self, url: str) -> None:
        self.url = shown(url)
        self._starting = AsyncCaller(url.rstrip("/"), timeout=None)
        self._caller = AsyncCaller(url.rstrip("/"), timeout=PATIENCE)

    async def queue_config(self) -> dict[str, Any]:
        """The configuration of its message queue, under the name of its class."""
        return await self._starting.call(requests.queue_config())

    async def register(self, definition: ServiceDefinition) -> ControlPlaneConfig:
        """Make a service known; gives the control plane's settings, those of a newer one that are known here."""
        shown = await self._starting.call(requests.register_service(definition)) or {}
        known = {name: value for name, value in shown.items() if name in ControlPlaneConfig.model_fields}
        return ControlPlaneConfig.model_validate(known)

    async def deregister(self, service_name: str) -> None:
        await self._caller.call(requests.deregister_service(service_name))

    async def submit(self, task: TaskDefinition) -> None:
        """Hand over a task, in a session of its own if it has none; the same task again is the same task."""
        data = task.model_dump(mode="json", exclude={"agent_id"})
        body = QueueMessage(action=ActionTypes.NEW_TASK, data=data).model_dump_json().encode()
        await self._caller.call(requests.Request("POST", "/process_message", _nothing, body=body, headers=_JSON))

    async def get_state(self, session_id: str) -> dict[str, Any] | None:
        try:
            return await self._caller.call(requests.get_state(session_id))
        except UnknownSession:
            return None

    async def update_state(self, session_id: str, state: dict[str, Any]) -> None:
        await self._caller.call(requests.update_state(session_id, msgspec.json.encode(state)))


_JSON = {"Content-Type": "application/json"}


def _nothing(_: bytes) -> None:
    return None
