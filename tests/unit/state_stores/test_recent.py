from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from arriero.state_stores.recent import Recent


def recent(most: int = 3, largest: int = 800, size_of: Callable[[bytes], int] = len) -> Recent[str, bytes]:
    return Recent(most, largest, size_of)


def kept(cache: Recent[str, bytes], keys: str) -> str:
    return "".join(key for key in keys if key in cache)


def test_what_was_not_used_for_longest_is_forgotten() -> None:
    cache = recent()
    for key in "abc":
        cache.keep(key, b"1")
    assert cache.find("a") == b"1"
    cache.keep("d", b"1")
    assert kept(cache, "abcd") == "acd"


def test_large_values_make_room_for_themselves() -> None:
    cache = recent(most=100)
    for key in "abcdefghij":
        cache.keep(key, b"x" * 100)
    assert kept(cache, "abcdefghij") == "cdefghij"


def test_a_value_too_large_is_not_kept_and_neither_is_what_it_replaces() -> None:
    cache = recent()
    cache.keep("a", b"1")
    cache.keep("b", b"1")
    cache.keep("a", b"x" * 101)
    assert cache.find("a") is None
    assert kept(cache, "ab") == "b"


def test_a_value_replaced_takes_no_room_any_more() -> None:
    cache = recent()
    cache.keep("a", b"1")
    for _ in range(100):
        cache.keep("b", b"x" * 100)
    assert kept(cache, "ab") == "ab"


def test_a_cache_of_nothing_keeps_nothing() -> None:
    cache = recent(most=0)
    cache.keep("a", b"1")
    assert cache.find("a") is None


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 130))), st.integers(0, 6))
def test_it_gives_the_last_value_or_nothing_and_stays_in_bounds(changes: list[tuple[str, int]], most: int) -> None:
    cache = recent(most=most, largest=400)
    last: dict[str, bytes] = {}
    for key, size in changes:
        last[key] = b"x" * size
        cache.keep(key, last[key])
        found = {key: value for key in last if (value := cache.find(key)) is not None}
        assert all(value == last[key] for key, value in found.items())
        assert len(cache) == len(found) <= most
        assert sum(map(len, found.values())) <= 400
        assert (key in found) == (most > 0 and size <= 50)
