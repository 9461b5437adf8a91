"""The submodules in which programs written for ``llama_deploy`` look for names, as far as their rooms are built."""

import importlib

import pytest

PLACES = {
    "client": "AsyncLlamaDeployClient LlamaDeployClient Client",
    "client.async_client": "AsyncLlamaDeployClient AsyncSessionClient",
    "client.sync_client": "LlamaDeployClient SessionClient",
    "client.client": "Client",
    "control_plane": "ControlPlaneServer ControlPlaneConfig",
    "control_plane.base": "BaseControlPlane",
    "control_plane.config": "ControlPlaneConfig parse_state_store_uri",
    "control_plane.server": "ControlPlaneServer CONTROL_PLANE_MESSAGE_TYPE",
    "deploy": "deploy_core deploy_workflow",
    "deploy.deploy": "deploy_core deploy_workflow",
    "message_consumers": "BaseMessageQueueConsumer CallableMessageConsumer RemoteMessageConsumer "
    "RemoteMessageConsumerDef",
    "message_consumers.base": "BaseMessageQueueConsumer StartConsumingCallable default_start_consuming_callable",
    "message_consumers.callable": "CallableMessageConsumer",
    "message_consumers.remote": "RemoteMessageConsumer RemoteMessageConsumerDef",
    "message_publishers": "MessageQueuePublisherMixin PublishCallback",
    "message_publishers.publisher": "MessageQueuePublisherMixin PublishCallback",
    "message_queues": "AbstractMessageQueue BaseMessageQueue SimpleMessageQueue SimpleMessageQueueConfig "
    "SimpleMessageQueueServer",
    "message_queues.base": "AbstractMessageQueue AsyncProcessMessageCallable BaseMessageQueue MessageProcessor "
    "PublishCallback",
    "message_queues.simple": "SimpleMessageQueue SimpleMessageQueueConfig SimpleMessageQueueServer "
    "SimpleRemoteClientMessageQueue",
    "message_queues.simple.client": "SimpleMessageQueue",
    "message_queues.simple.config": "SimpleMessageQueueConfig",
    "message_queues.simple.server": "SimpleMessageQueueServer",
    "messages": "QueueMessage",
    "messages.base": "QueueMessage QueueMessageStats",
    "orchestrators": "SimpleOrchestrator SimpleOrchestratorConfig",
    "orchestrators.base": "BaseOrchestrator",
    "orchestrators.simple": "SimpleOrchestrator SimpleOrchestratorConfig",
    "orchestrators.utils": "get_result_key get_stream_key",
    "services": "WorkflowService WorkflowServiceConfig",
    "services.base": "BaseService",
    "services.workflow": "WorkflowService WorkflowServiceConfig WorkflowState",
    "types": "ActionTypes ChatMessage CONTROL_PLANE_NAME EventDefinition HumanResponse MessageRole NewTask "
    "PydanticValidatedUrl ServiceDefinition SessionDefinition TaskDefinition TaskResult TaskStream ToolCall "
    "ToolCallBundle ToolCallResult generate_id",
    "types.core": "ActionTypes ChatMessage CONTROL_PLANE_NAME EventDefinition HumanResponse MessageRole NewTask "
    "PydanticValidatedUrl ServiceDefinition SessionDefinition TaskDefinition TaskResult TaskStream ToolCall "
    "ToolCallBundle ToolCallResult generate_id",
}


@pytest.mark.parametrize("place", PLACES)
def test_the_documented_names_are_where_they_were(place: str) -> None:
    module = importlib.import_module(f"arriero.{place}")
    for name in PLACES[place].split():
        assert getattr(module, name) is not None


@pytest.mark.parametrize("name", ["ActionTypes", "TaskDefinition", "generate_id", "QueueMessage"])
def test_a_name_in_two_places_is_one_thing(name: str) -> None:
    found = [
        getattr(module, name)
        for place, names in PLACES.items()
        if name in names.split()
        for module in [importlib.import_module(f"arriero.{place}")]
    ]
    assert len(found) > 1
    assert all(each is found[0] for each in found)


@pytest.mark.parametrize("place", ["arriero.types", "arriero.message_queues"])
def test_a_name_that_is_nowhere_is_an_attribute_error(place: str) -> None:
    with pytest.raises(AttributeError, match="NoSuchName"):
        getattr(importlib.import_module(place), "NoSuchName")  # noqa: B009 as an attribute the type checker would refuse it
