"""What cannot be deployed is refused before anybody hears of it."""

from __future__ import annotations

import pytest
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from arriero.deploy import deploy_workflow
from arriero.types.errors import ConfigurationError


class Letters(Workflow):
    @step
    async def write(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("to"))


async def test_a_class_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(ConfigurationError, match=r"deploy an instance of it: Letters\(\)"):
        await deploy_workflow(Letters)  # type: ignore[arg-type]  # the mistake


async def test_what_is_no_workflow_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not int"):
        await deploy_workflow(42)  # type: ignore[arg-type]  # the mistake
