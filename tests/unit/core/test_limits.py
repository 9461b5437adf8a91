"""What a worker sends is believed no more than what a client does."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from arriero.core import limits
from arriero.core.limits import bounded
from arriero.core.records import ServiceRecord
from arriero.types.errors import ErrorInfo, InvalidInput, PayloadTooLarge
from arriero.types.link import LARGEST_VALUE, Event, Grant, Report
from arriero.types.tasks import TaskStatus
from tests.unit.core.conftest import Hand, House

NO_RESULTS = [
    *(b"", b"{", b"NaN", b"1 2", b'"\xff"', b'"\\ud800"', b"1" * 10_000, b"1e999"),
    *(b'["' + b"x" * 70_000 + b'\xff"]', b'["' + b"x" * 70_000 + b'\\udfff"]'),
]
LARGE = b'"' + b"x" * LARGEST_VALUE + b'"'


async def granted(house: House) -> tuple[Hand, Grant]:
    worker = await house.worker()
    await house.submit(await house.core.sessions.create())
    (grant,) = await worker.claim()
    return worker, grant


async def report(worker: Hand, grant: Grant, **fields: Any) -> None:
    told = Report(request=0, item_id=grant.item_id, token=grant.token, **fields)
    await worker.core.claims.report(worker.link, told)


@pytest.mark.parametrize(
    "fields",
    [
        {"value": msgspec.Raw(LARGE)},
        {"context": "x" * (LARGEST_VALUE + 1)},
        {"context": "\u00fc" * (LARGEST_VALUE // 2 + 1)},
        {"events": [Event(number=0, data=msgspec.Raw(b'{"x":' + LARGE + b"}"), last=True)]},
    ],
)
async def test_what_is_too_large_is_refused_and_the_item_goes_on(house: House, fields: dict[str, Any]) -> None:
    worker, grant = await granted(house)
    with pytest.raises(PayloadTooLarge, match=str(LARGEST_VALUE)):
        await report(worker, grant, **fields)
    await worker.complete(grant, 1)
    assert (await house.core.tasks.get(None, grant.task_id)).status is TaskStatus.COMPLETED


@pytest.mark.parametrize("value", NO_RESULTS, ids=lambda value: repr(value[:12]))
async def test_a_result_that_is_no_json_is_refused(house: House, value: bytes) -> None:
    worker, grant = await granted(house)
    with pytest.raises(InvalidInput, match="the result is no JSON"):
        await report(worker, grant, value=msgspec.Raw(value))
    await worker.complete(grant, 1)


@pytest.mark.parametrize("depth", [300, 5_000, 20_000])
async def test_a_result_that_lies_too_deep_is_refused_by_every_python(house: House, depth: int) -> None:
    worker, grant = await granted(house)
    with pytest.raises(InvalidInput, match=r"the result is (nested more than 200 levels deep|no JSON)"):
        await report(worker, grant, value=msgspec.Raw(b"[" * depth + b"]" * depth))
    await worker.complete(grant, 1)


@pytest.mark.parametrize(
    "data", [b'{"a":\n1}', b'{"a":1}\r\n\r\nevent: end', b"[]", b"1", b"", b'{"a":"\xff"}'], ids=repr
)
async def test_an_event_that_could_break_a_stream_is_refused(house: House, data: bytes) -> None:
    worker, grant = await granted(house)
    event = Event(number=0, data=msgspec.Raw(data))
    with pytest.raises(InvalidInput):
        await worker.core.claims.emit(worker.link, grant.item_id, grant.token, [event])
    with pytest.raises(InvalidInput):
        await report(worker, grant, events=[event])
    await worker.complete(grant, 1)
    assert [entry["kind"] for entry in await house.stream(await house.core.tasks.get(None, grant.task_id))] == ["end"]


async def test_an_error_of_any_size_ends_its_item_and_is_cut(house: House) -> None:
    worker, grant = await granted(house)
    error = ErrorInfo(
        code="c" * 1000, type="T" * 1000, message="m" * 1_000_000, retry_after=1e300, details={"d": "x" * 100_000}
    )
    await report(worker, grant, error=error)
    kept = (await house.core.tasks.get(None, grant.task_id)).error
    assert kept is not None
    assert (len(kept.code), len(kept.type), kept.retry_after) == (256, 256, 86_400.0)
    assert len(kept.message) < 66_000
    assert kept.message.endswith("(934464 more characters)")
    assert "x" not in kept.details


@pytest.mark.parametrize(("given", "kept"), [(None, None), (0.0, 0.0), (-5.0, 0.0), (1e9, 86_400.0), (3.5, 3.5)])
def test_a_pause_is_one_that_can_be_waited_for(given: float | None, kept: float | None) -> None:
    assert bounded(ErrorInfo(code="c", message="m", retry_after=given)).retry_after == kept
    assert bounded(ErrorInfo(code="c", message="m", retry_after=float("nan"))).retry_after == 86_400.0


async def test_the_number_of_services_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arriero.core.services.MOST_SERVICES", 3)
    services = house.core.services
    await asyncio.gather(*(services.register(ServiceRecord(name=f"s{number}")) for number in range(3)))
    with pytest.raises(InvalidInput, match="3 services are known, which is the limit"):
        await services.register(ServiceRecord(name="one more"))
    await services.register(ServiceRecord(name="s1", description="again"))
    await services.deregister("s0")
    await services.register(ServiceRecord(name="one more"))


def test_a_limit_of_a_service_must_leave_room_for_something() -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        limits.check_service(ServiceRecord(name="s", max_queue=0))
