from pathlib import Path

import pytest

from arriero.state_stores import MemoryStore, SqliteStore
from arriero.testing.stores import MakeStore, StateStoreContract


class TestMemoryStore(StateStoreContract):
    persistent = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        return MemoryStore


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
