"""The numbers that the documents promise."""

import pytest

from arriero.types.settings import ControlPlaneConfig

KIB = 1024
DAY = 86_400


@pytest.mark.shows("time.lease", "link.grace", "nested.depth", "default.input", "default.large", "default.kept")
def test_the_numbers_are_those_that_are_promised() -> None:
    config = ControlPlaneConfig()
    assert (config.lease, config.renew_every, config.link_grace) == (15.0, 5.0, 0.5)
    assert (config.max_losses, config.max_nesting) == (5, 32)
    assert (config.max_input, config.large_value) == (10 * KIB * KIB, 256 * KIB)
    assert config.keep_finished_for == 7 * DAY
