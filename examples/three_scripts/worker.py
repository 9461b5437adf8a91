import asyncio

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from arriero import ControlPlaneConfig, WorkflowServiceConfig, deploy_workflow


class MyWorkflow(Workflow):
    @step
    async def run_step(self, ev: StartEvent) -> StopEvent:
        arg1 = str(ev.get("arg1", ""))
        return StopEvent(result=arg1 + "_result")


async def main():
    await deploy_workflow(
        workflow=MyWorkflow(),
        workflow_config=WorkflowServiceConfig(host="127.0.0.1", port=8002, service_name="my_workflow"),
        control_plane_config=ControlPlaneConfig(),
    )


if __name__ == "__main__":
    asyncio.run(main())
