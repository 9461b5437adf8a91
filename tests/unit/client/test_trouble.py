import logging

import pytest

from arriero.client.trouble import Kind, Outage, Patience, Trouble, shown
from arriero.types.errors import (
    ControlPlaneUnavailable,
    Fenced,
    StoreUnavailable,
    TransientError,
    UnknownSession,
)

URL = "http://127.0.0.1:8000"
REFUSED = Trouble(Kind.REFUSED, "cannot be reached (connection refused)")
DROPPED = Trouble(Kind.DROPPED, "closed the connection")


def most() -> float:
    return 1.0


def none() -> float:
    return 0.0


def busy(retry_after: float) -> Trouble:
    trouble = Trouble.in_answer(StoreUnavailable("the store is away", retry_after=retry_after))
    assert trouble is not None
    return trouble


def test_pauses_grow_by_half_from_50_ms_to_1_s() -> None:
    patience = Patience(URL, None, 0.0, most)
    pauses = [patience.pause(REFUSED, 0.0) for _ in range(20)]
    assert pauses[:3] == pytest.approx([0.05, 0.075, 0.1125])
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_jitter_shortens_a_pause_by_half_at_most() -> None:
    shortest, longest = Patience(URL, None, 0.0, none), Patience(URL, None, 0.0, most)
    for _ in range(10):
        assert shortest.pause(REFUSED, 0.0) == longest.pause(REFUSED, 0.0) / 2


def test_a_dropped_connection_is_replaced_at_once_but_only_the_first_time() -> None:
    patience = Patience(URL, None, 0.0, most)
    assert [patience.pause(DROPPED, 0.0) for _ in range(3)] == pytest.approx([0.0, 0.075, 0.1125])


def test_without_a_limit_patience_never_ends() -> None:
    patience = Patience(URL, None, 0.0)
    assert all(0 < patience.pause(REFUSED, now) <= 1.0 for now in range(0, 1_000_000, 100))


def test_the_last_pause_ends_with_the_limit() -> None:
    patience = Patience(URL, 5.0, 100.0, most)
    for _ in range(10):
        patience.pause(REFUSED, 100.0)
    assert patience.pause(REFUSED, 104.75) == 0.25


def test_at_the_end_of_patience_the_error_names_the_address_the_cause_and_the_limit() -> None:
    with pytest.raises(ControlPlaneUnavailable) as caught:
        Patience(URL, 5.0, 100.0).pause(REFUSED, 105.0)
    for part in (URL, "connection refused", "5 s", "timeout"):
        assert part in str(caught.value)
    assert caught.value.__cause__ is REFUSED


def test_a_busy_control_plane_is_asked_again_when_it_said() -> None:
    assert Patience(URL, None, 0.0, none).pause(busy(3.0), 0.0) == 3.0
    assert Patience(URL, None, 0.0, most).pause(busy(3.0), 0.0) == pytest.approx(3.3)
    assert Patience(URL, None, 0.0, most).pause(busy(0.0), 0.0) == 0.05


@pytest.mark.parametrize("retry_after", [11.0, 1e300, float("inf")])
def test_its_own_error_is_raised_at_once_when_that_would_be_after_the_limit(retry_after: float) -> None:
    with pytest.raises(StoreUnavailable, match="the store is away"):
        Patience(URL, 10.0, 0.0).pause(busy(retry_after), 0.0)


@pytest.mark.parametrize(
    "error", [UnknownSession("x"), Fenced("x", retry_after=1.0), StoreUnavailable("x"), TransientError("x")]
)
def test_an_error_without_the_word_to_try_again_is_final(error: UnknownSession) -> None:
    assert Trouble.in_answer(error) is None


def test_an_address_is_shown_without_its_password() -> None:
    assert shown("http://me:hunter2@host:1/x") == "http://***@host:1/x"
    assert shown(URL) == URL


def test_an_outage_is_told_once_after_a_second_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "arriero.client")
    outage = Outage(URL)
    outage.met(REFUSED, 0.0, 0.0, 120.0)
    outage.met(REFUSED, 0.9, 0.9, 120.0)
    assert caplog.records == []
    for now in (1.1, 2.0, 3.0):
        outage.met(REFUSED, now, now, 120.0)
    (warning,) = caplog.records
    assert warning.levelname == "WARNING"
    assert URL in warning.getMessage()
    assert "connection refused" in warning.getMessage()
    assert "120 s" in warning.getMessage()
    outage.over()
    outage.over()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_end_of_a_long_wait_is_not_a_long_outage(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(URL)
    outage.met(DROPPED, 0.0, 30.0, None)
    outage.met(REFUSED, 30.5, 30.5, None)
    assert caplog.records == []
    outage.met(REFUSED, 31.0, 31.0, None)
    assert "connection refused" in caplog.records[0].getMessage()


def test_a_request_without_an_answer_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Outage(URL).met(Trouble(Kind.SILENT, "does not answer in time"), 0.0, 60.0, None)
    assert "does not answer" in caplog.records[0].getMessage()


def test_a_short_outage_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "arriero.client")
    outage = Outage(URL)
    for now in (0.0, 0.9, 2.0, 2.9):
        outage.met(REFUSED, now, now, None)
        outage.over()
    assert caplog.records == []
