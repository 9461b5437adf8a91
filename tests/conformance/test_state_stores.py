from pathlib import Path

import pytest

from arriero.state_stores import MemoryStore, SqliteStore
from arriero.testing.stores import MakeStore, StateStoreContract


@pytest.mark.shows("log.order", by="test_the_order_of_a_log_is_the_order_of_commit")
@pytest.mark.shows("log.watch", by="test_a_second_watch_sees_what_came_in_between")
@pytest.mark.shows("log.ended", by="test_an_ended_log_refuses_appends_and_all_that_comes_with_them")
@pytest.mark.shows("store.all-or-none", by="test_a_commit_that_fails_leaves_nothing")
@pytest.mark.shows("store.all-or-none", by="test_a_conflict_leaves_its_neighbours_standing")
class TestMemoryStore(StateStoreContract):
    persistent = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        return MemoryStore


@pytest.mark.shows("stream.woken", by="test_thousands_of_watchers_are_all_woken")
@pytest.mark.shows("log.order", by="test_the_order_of_a_log_is_the_order_of_commit")
@pytest.mark.shows("log.watch", by="test_a_second_watch_sees_what_came_in_between")
@pytest.mark.shows("log.watch", by="test_a_reader_that_follows_a_watch_misses_nothing")
@pytest.mark.shows("log.ended", by="test_an_ended_log_refuses_appends_and_all_that_comes_with_them")
@pytest.mark.shows("store.all-or-none", by="test_a_commit_that_fails_leaves_nothing")
@pytest.mark.shows("store.all-or-none", by="test_a_conflict_leaves_its_neighbours_standing")
class TestSqliteStore(StateStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda: SqliteStore(tmp_path / "state.db")


class TestSqliteStoreWithoutCache(StateStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda: SqliteStore(tmp_path / "state.db", cached_documents=0)


class TestSqliteStoreWithSmallCache(StateStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda: SqliteStore(tmp_path / "state.db", cached_documents=2, cached_bytes=64)
