import importlib

import pytest
from pydantic import BaseModel

from arriero.message_queues import (
    MemoryMessageQueue,
    MemoryMessageQueueConfig,
    MessageQueue,
    SimpleMessageQueue,
    SimpleMessageQueueConfig,
    config_from_mapping,
    queue_from_config,
)
from arriero.message_queues.backends import BACKENDS
from arriero.types.errors import ConfigurationError


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_the_table_names_what_is_there(name: str) -> None:
    backend = BACKENDS[name]
    module = importlib.import_module(backend.module)
    assert getattr(module, backend.config).model_fields["type"].default == name
    assert issubclass(getattr(module, backend.queue), MessageQueue)


def test_a_configuration_becomes_its_queue() -> None:
    assert isinstance(queue_from_config(MemoryMessageQueueConfig()), MemoryMessageQueue)
    queue = queue_from_config(SimpleMessageQueueConfig(port=9))
    assert isinstance(queue, SimpleMessageQueue)
    assert queue.as_config() == SimpleMessageQueueConfig(port=9)


def test_a_mapping_becomes_its_configuration() -> None:
    assert config_from_mapping({"type": "simple", "port": 9}) == SimpleMessageQueueConfig(port=9)


def test_what_a_control_plane_reports_becomes_its_configuration() -> None:
    reported = {"SimpleMessageQueueConfig": SimpleMessageQueueConfig(port=9).model_dump()}
    assert config_from_mapping(reported) == SimpleMessageQueueConfig(port=9)


def test_an_unknown_type_names_the_nearest_and_all() -> None:
    with pytest.raises(ConfigurationError, match=r"memory, simple.*Did you mean simple"):
        config_from_mapping({"type": "simpel"})


def test_an_unknown_configuration_class_is_refused() -> None:
    class Strange(BaseModel):
        pass

    with pytest.raises(ConfigurationError, match="Strange"):
        queue_from_config(Strange())


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(ConfigurationError, match="prot"):
        config_from_mapping({"type": "simple", "prot": 9})
