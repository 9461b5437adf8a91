"""The numbers that the documents promise, and the documented type of addresses."""

import pytest
from pydantic import TypeAdapter, ValidationError

from arriero.types.settings import ControlPlaneConfig, PydanticValidatedUrl

KIB = 1024
DAY = 86_400


@pytest.mark.shows("time.lease", "link.grace", "nested.depth", "default.input", "default.large", "default.kept")
def test_the_numbers_are_those_that_are_promised() -> None:
    config = ControlPlaneConfig()
    assert (config.lease, config.renew_every, config.link_grace) == (15.0, 5.0, 0.5)
    assert (config.max_losses, config.max_nesting) == (5, 32)
    assert (config.max_input, config.large_value) == (10 * KIB * KIB, 256 * KIB)
    assert config.keep_finished_for == 7 * DAY


def test_an_address_is_text_that_was_looked_at() -> None:
    address = TypeAdapter(PydanticValidatedUrl)
    assert address.validate_python("http://localhost:8000") == "http://localhost:8000/"
    with pytest.raises(ValidationError, match="valid URL"):
        address.validate_python("localhost")
