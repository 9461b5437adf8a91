from collections import Counter
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from arriero.message_queues.topics import DeadLetters, Limits, Outlet, Topic


class Clock:
    """Calls that are due when the test says so."""

    def __init__(self) -> None:
        self.due: list[Call] = []

    def later(self, delay: float, call: Callable[[], None]) -> "Call":
        self.due.append(made := Call(self, delay, call))
        return made

    def run(self, index: int = 0) -> None:
        self.due.pop(index).call()


class Call:
    def __init__(self, clock: Clock, delay: float, call: Callable[[], None]) -> None:
        self.clock, self.delay, self.call = clock, delay, call

    def cancel(self) -> None:
        self.clock.due.remove(self)


class Hand:
    """One consumer: an outlet, and what it was given."""

    def __init__(self, topic: Topic, prefetch: int = 1) -> None:
        self.given: dict[int, bytes] = {}
        self.prefetch = prefetch
        self.outlet: Outlet = topic.attach(prefetch, self.given.__setitem__)

    @property
    def bodies(self) -> list[bytes]:
        return list(self.given.values())

    @property
    def tag(self) -> int:
        return next(iter(self.given))

    def ack(self) -> None:
        tag = self.tag
        del self.given[tag]
        self.outlet.ack(tag)


def make_topic(**limits: int) -> tuple[Topic, Clock, DeadLetters]:
    clock, letters = Clock(), DeadLetters(Limits(**limits))
    return Topic("t", Limits(**limits), clock.later, letters), clock, letters


def test_consumers_are_served_in_turn() -> None:
    topic, _, _ = make_topic()
    first, second = Hand(topic, 2), Hand(topic, 2)
    for body in (b"1", b"2", b"3", b"4", b"5"):
        assert topic.put(body)
    assert (first.bodies, second.bodies) == ([b"1", b"3"], [b"2", b"4"])
    assert topic.depth == 1


def test_settling_makes_room_for_the_next() -> None:
    topic, _, _ = make_topic()
    hand = Hand(topic)
    topic.put(b"1")
    topic.put(b"2")
    assert hand.bodies == [b"1"]
    hand.ack()
    assert hand.bodies == [b"2"]


def test_what_a_closed_outlet_held_comes_first_and_in_order() -> None:
    topic, _, _ = make_topic()
    dying = Hand(topic, 3)
    for body in (b"1", b"2", b"3", b"4"):
        topic.put(body)
    dying.outlet.close()
    dying.outlet.close()
    assert Hand(topic, 9).bodies == [b"1", b"2", b"3", b"4"]


def test_a_closed_outlet_settles_nothing() -> None:
    topic, _, letters = make_topic()
    dying = Hand(topic)
    topic.put(b"1")
    tag = dying.tag
    dying.outlet.close()
    dying.outlet.ack(tag)
    dying.outlet.nack(tag)
    dying.outlet.reject(tag, "no")
    assert topic.depth == 1
    assert letters.of("t") == []


def test_a_delayed_message_waits_for_its_time_and_counts_as_depth() -> None:
    topic, clock, _ = make_topic()
    hand = Hand(topic)
    topic.put(b"1")
    hand.outlet.nack(hand.tag, 5.0)
    assert [call.delay for call in clock.due] == [5.0]
    assert topic.depth == 1
    assert len(hand.given) == 1
    clock.run()
    assert hand.bodies == [b"1", b"1"]
    assert topic.depth == 0


def test_waking_makes_delayed_messages_ready_and_cancels_their_timers() -> None:
    topic, clock, _ = make_topic()
    hand = Hand(topic)
    topic.put(b"1")
    hand.outlet.nack(hand.tag, 5.0)
    topic.wake()
    assert clock.due == []
    assert len(hand.given) == 2


def test_a_delay_has_a_longest_length() -> None:
    topic, clock, _ = make_topic()
    hand = Hand(topic)
    topic.put(b"1")
    hand.outlet.nack(hand.tag, float("inf"))
    assert clock.due[0].delay < float("inf")


def test_a_full_topic_takes_nothing_until_there_is_room() -> None:
    topic, _, _ = make_topic(depth=2)
    assert topic.put(b"1")
    assert topic.put(b"2")
    assert not topic.put(b"3")
    assert topic.pop() == b"1"
    assert topic.put(b"3")


def test_bytes_are_limited_too_and_those_in_delivery_count() -> None:
    topic, _, _ = make_topic(topic_bytes=10)
    hand = Hand(topic)
    assert topic.put(b"12345678")
    assert not topic.put(b"123")
    hand.ack()
    assert topic.put(b"123")


def test_dead_letters_are_bounded_in_number_and_size() -> None:
    letters = DeadLetters(Limits(dead_letters=2, dead_letter_bytes=10))
    for body in (b"1", b"2", b"3"):
        letters.add("t", body, "no")
    assert [letter.body for letter in letters.of("t")] == [b"2", b"3"]
    letters.add("t", b"123456789", "no")
    assert [letter.body for letter in letters.of("t")] == [b"3", b"123456789"]
    letters.add("t", b"larger than everything", "no")
    assert letters.of("t") == []


def test_a_long_reason_is_cut() -> None:
    letters = DeadLetters(Limits())
    letters.add("t", b"", "x" * 1_000_000)
    assert len(letters.of("t")[0].reason) < 10_000


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, each message is in one place, and nobody waits while there is work."""

    def __init__(self) -> None:
        super().__init__()
        self.topic, self.clock, self.letters = make_topic()
        self.hands: list[Hand] = []
        self.published = 0
        self.done: list[bytes] = []

    @rule()
    def publish(self) -> None:
        self.topic.put(str(self.published).encode())
        self.published += 1

    @rule(prefetch=st.integers(1, 3))
    def attach(self, prefetch: int) -> None:
        self.hands.append(Hand(self.topic, prefetch))

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        hand = self.hands.pop(data.draw(st.integers(0, len(self.hands) - 1)))
        hand.outlet.close()

    @precondition(lambda self: any(hand.given for hand in self.hands))
    @rule(data=st.data(), how=st.sampled_from(["ack", "nack", "delay", "reject"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        hand = data.draw(st.sampled_from([hand for hand in self.hands if hand.given]))
        tag = data.draw(st.sampled_from(sorted(hand.given)))
        body = hand.given.pop(tag)
        if how == "ack":
            self.done.append(body)
            hand.outlet.ack(tag)
        elif how == "reject":
            hand.outlet.reject(tag, "no")
        else:
            hand.outlet.nack(tag, 1.0 if how == "delay" else 0.0)

    @precondition(lambda self: self.clock.due)
    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        self.clock.run(data.draw(st.integers(0, len(self.clock.due) - 1)))

    @invariant()
    def nobody_waits_while_there_is_work(self) -> None:
        ready = self.topic.depth - len(self.clock.due)
        assert ready >= 0
        assert ready == 0 or all(len(hand.given) == hand.prefetch for hand in self.hands)

    @invariant()
    def nobody_holds_more_than_prefetch(self) -> None:
        assert all(len(hand.given) <= hand.prefetch for hand in self.hands)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        held = sum(len(hand.given) for hand in self.hands)
        assert held + self.topic.depth + len(self.done) + len(self.letters.of("t")) == self.published

    def teardown(self) -> None:
        for hand in self.hands:
            hand.outlet.close()
        self.topic.wake()
        rest = []
        while (body := self.topic.pop()) is not None:
            rest.append(body)
        gone = [*self.done, *(letter.body for letter in self.letters.of("t"))]
        assert Counter([*rest, *gone]) == Counter(str(number).encode() for number in range(self.published))


TestAnyHistory = AnyHistory.TestCase
