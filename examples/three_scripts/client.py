import asyncio

from arriero import AsyncLlamaDeployClient, ControlPlaneConfig


async def main():
    client = AsyncLlamaDeployClient(ControlPlaneConfig())
    session = await client.create_session()
    result = await session.run("my_workflow", arg1="hello_world")
    print(result)  # hello_world_result


if __name__ == "__main__":
    asyncio.run(main())
