import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.client.streams import Entry, EventReader, Following, event_data
from arriero.client.trouble import Kind, Trouble
from arriero.types.errors import ControlPlaneUnavailable, ProtocolError, TaskDead, TaskFailed, TaskTimedOut, WaitTimeout

URL = "http://127.0.0.1:8000"
DROPPED = Trouble(Kind.DROPPED, "closed the connection")
STREAM = (
    b": hello\n\n"
    b'id: 1\nevent: event\ndata: {"kind":"event","data":{"n":1}}\n\n'
    b": still here\n\n"
    b'id: 2\r\nevent: restarted\r\ndata: {"kind":"restarted","epoch":2}\r\n\r\n'
    b'event:event\nid:3\ndata:{"kind":"event",\ndata:"data":{"n":2}}\nretry: 5\n\n'
    b"id: 4\n\n"
    b'id: 5\nevent: end\ndata: {"kind":"end","status":"completed","error":null}\n\n'
)
ENTRIES = [
    Entry("1", "event", b'{"kind":"event","data":{"n":1}}'),
    Entry("2", "restarted", b'{"kind":"restarted","epoch":2}'),
    Entry("3", "event", b'{"kind":"event",\n"data":{"n":2}}'),
    Entry("5", "end", b'{"kind":"end","status":"completed","error":null}'),
]


def event(seq: int) -> bytes:
    return b'id: %d\nevent: event\ndata: {"data":{"n":%d}}\n\n' % (seq, seq)


@given(st.lists(st.integers(0, len(STREAM))))
def test_entries_are_the_same_however_their_bytes_are_cut(cuts: list[int]) -> None:
    reader = EventReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    entries = [entry for a, b in pairwise(edges) for entry in reader.feed(STREAM[a:b])]
    assert entries == ENTRIES
    assert reader.last_id == "5"


@given(st.binary())
def test_no_bytes_do_harm(data: bytes) -> None:
    EventReader().feed(data)


def test_a_cut_off_entry_is_forgotten_and_read_anew() -> None:
    reader = EventReader()
    assert len(reader.feed(event(1) + event(2)[:-3])) == 1
    reader.reset()
    assert reader.last_id == "1"
    assert [entry.id for entry in reader.feed(event(2))] == ["2"]


def test_entries_that_were_given_before_are_not_given_again() -> None:
    reader = EventReader()
    reader.feed(event(1) + event(2))
    reader.reset()
    assert [entry.id for entry in reader.feed(event(1) + event(2) + event(3))] == ["3"]


def test_an_entry_without_an_id_is_given() -> None:
    reader = EventReader()
    reader.feed(event(7))
    assert reader.feed(b"event: end\ndata: {}\n\n") == [Entry("", "end", b"{}")]
    assert reader.last_id == "7"


def test_ids_that_are_no_numbers_are_passed_on() -> None:
    reader = EventReader()
    reader.feed(b"id: b\nevent: event\ndata: 1\n\nid: a\nevent: event\ndata: 2\n\n")
    assert reader.last_id == "a"


def test_an_event_without_end_is_cut_off() -> None:
    reader = EventReader(longest=100)
    reader.feed(b"data: 012345" * 8)
    with pytest.raises(ProtocolError, match="100 bytes"):
        reader.feed(b"data: 012345")


def following(limit: float | None = 10.0) -> Following:
    return Following("S", "T", URL, limit, 100.0)


def test_the_first_request_is_for_everything_and_the_next_for_what_is_missing() -> None:
    reader = following()
    assert "Last-Event-ID" not in reader.request(100.0).headers
    reader.feed(event(1) + event(2))
    assert reader.request(101.0).headers["Last-Event-ID"] == "2"


def test_the_first_entry_is_waited_for_until_the_limit_and_the_next_for_ever() -> None:
    reader = following()
    reader.request(100.0)
    assert reader.first_within(103.0) == 7.0
    reader.feed(b": still here\n\n")
    assert reader.first_within(111.0) == -1.0
    error = reader.too_late()
    assert isinstance(error, WaitTimeout)
    assert "T" in str(error)
    assert "10 s" in str(error)
    reader.feed(event(1))
    assert reader.first_within(500.0) is None


def test_a_connection_at_the_very_end_of_the_limit_gets_a_moment() -> None:
    reader = following()
    reader.request(110.0)
    assert reader.first_within(110.0) == 0.5


def test_without_a_limit_the_first_entry_is_waited_for_for_ever() -> None:
    assert following(None).first_within(1e9) is None


def test_an_outage_is_borne_for_the_limit() -> None:
    reader = following()
    reader.request(100.0)
    assert reader.lost(DROPPED, 100.0) == 0.0
    reader.request(109.0)
    assert reader.lost(DROPPED, 109.0) > 0.0
    reader.request(110.0)
    with pytest.raises(ControlPlaneUnavailable):
        reader.lost(DROPPED, 110.0)


def test_an_entry_ends_an_outage() -> None:
    reader = following()
    for seq in range(1, 10):
        now = 100.0 + 60.0 * seq
        reader.request(now)
        reader.feed(event(seq))
        assert reader.lost(DROPPED, now + 30.0) == 0.0


def test_so_does_a_connection_that_lived_for_a_while() -> None:
    reader = following()
    for number in range(10):
        now = 100.0 + 60.0 * number
        reader.request(now)
        reader.feed(b": still here\n\n")
        assert reader.lost(DROPPED, now + 60.0) == 0.0


def test_but_not_one_that_brought_nothing() -> None:
    reader = following()
    reader.request(100.0)
    with pytest.raises(ControlPlaneUnavailable):
        reader.lost(Trouble(Kind.SILENT, "does not answer in time"), 160.0)


def test_a_control_plane_that_drops_every_connection_is_not_pressed() -> None:
    reader = following()
    pauses = []
    for _ in range(6):
        reader.request(100.0)
        pauses.append(reader.lost(DROPPED, 100.0))
    assert pauses[0] == 0.0
    assert all(pause >= 0.025 for pause in pauses[1:])


def test_an_event_gives_its_documented_dict() -> None:
    assert event_data(Entry("1", "event", b'{"kind":"event","type":"P","data":{"n":1}}'), "T") == {"n": 1}


@pytest.mark.parametrize(("path", "last", "shown"), [("", True, True), ("a/b", False, True), ("a/b", True, False)])
def test_the_event_that_ended_the_run_of_a_service_below_is_left_out(path: str, last: bool, shown: bool) -> None:
    text = json.dumps({"kind": "event", "path": path, "last": last, "data": {"n": 1}})
    assert event_data(Entry("1", "event", text.encode()), "T") == ({"n": 1} if shown else None)


@pytest.mark.parametrize(
    "entry",
    [
        Entry("2", "restarted", b'{"kind":"restarted","epoch":2}'),
        Entry("3", "something new", b"not json"),
        Entry("4", "end", b'{"kind":"end","status":"completed","error":null}'),
    ],
)
def test_what_is_no_event_gives_nothing(entry: Entry) -> None:
    assert event_data(entry, "T") is None


@pytest.mark.parametrize(("status", "cls"), [("failed", TaskFailed), ("dead", TaskDead), ("timed_out", TaskTimedOut)])
def test_an_end_without_success_raises(status: str, cls: type[TaskFailed]) -> None:
    error = {"code": cls.code, "type": "ValueError", "message": "no such luck"}
    data = json.dumps({"kind": "end", "status": status, "error": error}).encode()
    with pytest.raises(cls, match="no such luck") as caught:
        event_data(Entry("5", "end", data), "T")
    assert caught.value.task_id == "T"


@pytest.mark.parametrize("data", [b"", b"x", b"{}", b'{"data":1}', b"[" * 100_000, b'{"data":{"a":"\xff"}}'])
@pytest.mark.parametrize("kind", ["event", "end"])
def test_an_entry_that_cannot_be_read_is_a_typed_error(kind: str, data: bytes) -> None:
    with pytest.raises(ProtocolError, match="task T"):
        event_data(Entry("5", kind, data), "T")
