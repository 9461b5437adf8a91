"""Which errors of handlers may pass."""

import pytest

from arriero.services.faults import LONGEST, error_info, shown
from arriero.types.errors import InvalidInput, TransientError


class Answered(Exception):
    """As client libraries raise it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


PASSING = [
    TransientError("later"),
    ConnectionError("down"),
    ConnectionResetError(),
    TimeoutError(),
    *map(Answered, (429, 500, 503)),
]
FINAL = [ValueError("no"), InvalidInput("no"), KeyError("x"), OSError("no"), *map(Answered, (400, 404, 422))]


@pytest.mark.shows("retry.which")
@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_connection_errors_timeouts_429_and_5xx_may_pass(error: Exception) -> None:
    assert error_info(error).retryable


@pytest.mark.shows("retry.which")
@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_other_errors_are_final(error: Exception) -> None:
    assert not error_info(error).retryable


def test_an_error_may_say_when_to_come_again() -> None:
    assert error_info(TransientError("later", retry_after=3.0)).retry_after == 3.0


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_error_that_cannot_say_what_it_is_is_known_by_its_class(raised: type[BaseException]) -> None:
    class Vile(Exception):
        def __str__(self) -> str:
            raise raised

    assert error_info(Vile()).message == "Vile"


def test_what_is_logged_of_an_error_can_be_written_and_read() -> None:
    text = shown(ValueError("\ud83e" + "x" * 10 * LONGEST))
    assert text.encode().startswith(b"ValueError: ?xxx")
    assert len(text) < LONGEST + 10
