"""The documented nouns have their documented JSON."""

from datetime import datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from arriero.types import (
    ActionTypes,
    ChatMessage,
    EventDefinition,
    HumanResponse,
    MessageRole,
    NewTask,
    QueueMessage,
    QueueMessageStats,
    ServiceDefinition,
    SessionDefinition,
    TaskDefinition,
    TaskResult,
    TaskStream,
    ToolCall,
    ToolCallResult,
    WorkflowState,
    generate_id,
)

TASK = {"input": '{"arg1": "x"}', "task_id": "T", "session_id": "S", "agent_id": "my_workflow"}
SAID = {"role": "tool", "content": "2", "additional_kwargs": {"name": "multiply", "tool_call_id": "C"}}
UNSET = {"publish_time": None, "process_start_time": None, "process_end_time": None}
DOCUMENTED: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (ChatMessage, {"role": "user", "content": "hi", "additional_kwargs": {}}),
    (TaskDefinition, TASK),
    (TaskDefinition, {"input": "{}", "task_id": "T", "session_id": "S", "service_id": "my_workflow"}),
    (SessionDefinition, {"session_id": "S", "task_ids": ["T"], "state": {}}),
    (NewTask, {"task": TASK, "state": {"a": 1}}),
    (TaskResult, {"task_id": "T", "history": [SAID], "result": "hello_result", "data": {}}),
    (TaskStream, {"task_id": "T", "session_id": "S", "data": {"progress": 0.3}, "index": 0}),
    (EventDefinition, {"service_id": "my_workflow", "event_obj_str": "{}"}),
    (
        ToolCall,
        {
            "id_": "C",
            "tool_call_bundle": {"tool_name": "multiply", "tool_args": [], "tool_kwargs": {"a": 1}},
            "source_id": "P",
        },
    ),
    (ToolCallResult, {"id_": "C", "tool_message": SAID, "result": "2"}),
    (ServiceDefinition, {"service_name": "s", "description": "d", "prompt": [], "host": None, "port": None}),
    (HumanResponse, {"result": "yes"}),
    (WorkflowState, {"hash": "0" * 64, "state": {}, "run_kwargs": {"a": 1}, "session_id": "S", "task_id": "T"}),
    (
        QueueMessage,
        {
            "id_": "M",
            "publisher_id": "ControlPlaneServer-1",
            "data": TASK,
            "action": "new_task",
            "stats": UNSET | {"publish_time": "2024-09-24 19:40:28"},
            "type": "my_workflow",
        },
    ),
]
NOUNS = pytest.mark.parametrize(("noun", "documented"), DOCUMENTED, ids=lambda each: getattr(each, "__name__", ""))


def within(documented: Any, dumped: Any) -> bool:
    """All that is documented is there as it was; there may be more."""
    if isinstance(documented, dict):
        return all(name in dumped and within(value, dumped[name]) for name, value in documented.items())
    if isinstance(documented, list):
        return len(documented) == len(dumped) and all(map(within, documented, dumped))
    return bool(documented == dumped)


@NOUNS
def test_the_documented_json_is_read_and_written(noun: type[BaseModel], documented: dict[str, Any]) -> None:
    assert within(documented, noun.model_validate(documented).model_dump(mode="json"))


@NOUNS
def test_fields_of_other_versions_are_left_out(noun: type[BaseModel], documented: dict[str, Any]) -> None:
    assert noun.model_validate(documented | {"of_another": 1}) == noun.model_validate(documented)


@pytest.mark.parametrize(
    ("noun", "required"),
    [
        (TaskDefinition, {"input"}),
        (TaskResult, {"task_id"}),
        (TaskStream, {"task_id", "session_id", "data", "index"}),
        (EventDefinition, {"service_id", "event_obj_str"}),
        (ToolCall, {"tool_call_bundle", "source_id"}),
        (ServiceDefinition, {"service_name", "description"}),
        (HumanResponse, {"result"}),
        (WorkflowState, {"task_id"}),
        (QueueMessage, set()),
        (SessionDefinition, set()),
        (ChatMessage, set()),
    ],
)
def test_what_is_required_is_asked_for(noun: type[BaseModel], required: set[str]) -> None:
    assert {name for name, field in noun.model_fields.items() if field.is_required()} == required


def test_a_service_has_two_names_which_must_agree() -> None:
    for given in ({"agent_id": "a"}, {"service_id": "a"}, {"agent_id": "a", "service_id": "a"}):
        task = TaskDefinition(input="", **given)
        assert (task.agent_id, task.service_id) == ("a", "a")
    with pytest.raises(ValidationError, match="agent_id"):
        TaskDefinition(input="", agent_id="a", service_id="b")
    assert EventDefinition.model_validate({"agent_id": "a", "event_obj_str": ""}).service_id == "a"


def test_the_current_task_of_a_session_is_its_last() -> None:
    assert SessionDefinition(task_ids=["T", "U"]).current_task_id == "U"
    assert SessionDefinition().current_task_id is None


def test_a_message_has_the_documented_defaults() -> None:
    message = QueueMessage()
    assert (message.publisher_id, message.type, message.data, message.action) == ("default", "default", {}, None)
    assert message.stats.model_dump() == UNSET
    assert len({QueueMessage().id_, message.id_, generate_id(), generate_id()}) == 4
    assert datetime.strptime(QueueMessageStats.timestamp_str(), "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 that is its form


def test_actions_are_their_documented_words() -> None:
    words = "new_task completed_task request_for_help new_tool_call completed_tool_call task_stream send_event"
    assert [action.value for action in ActionTypes] == words.split()
    assert ActionTypes.NEW_TASK.name == "NEW_TASK"


def test_a_chat_message_is_made_of_text_and_shown_with_who_speaks() -> None:
    message = ChatMessage.from_str("hi", role="assistant", additional_kwargs={"a": 1})
    assert (message.role, str(message)) == (MessageRole.ASSISTANT, "assistant: hi")
    assert str(ChatMessage.from_str("hi")) == "user: hi"


def test_a_chat_message_as_a_dict_holds_json_alone() -> None:
    inner = ChatMessage(content="inside")
    message = ChatMessage(content="hi", additional_kwargs={"inner": [inner]})
    assert message.dict() == {
        "role": "user",
        "content": "hi",
        "additional_kwargs": {"inner": [{"role": "user", "content": "inside", "additional_kwargs": {}}]},
    }
    with pytest.raises(ValueError, match="additional_kwargs of a chat message"):
        ChatMessage(additional_kwargs={"open": object()}).dict()


def test_a_chat_message_of_blocks_keeps_their_text() -> None:
    blocks = [{"block_type": "text", "text": "one"}, {"block_type": "image", "url": "u"}, {"text": "two"}, "odd"]
    given = {"role": "assistant", "additional_kwargs": {}, "blocks": blocks}
    assert ChatMessage.model_validate(given).content == "one\ntwo"
    assert (
        TaskResult.model_validate({"task_id": "T", "history": [given], "result": ""}).history[0].content == "one\ntwo"
    )
