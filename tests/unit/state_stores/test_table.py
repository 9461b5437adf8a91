from pathlib import Path

import pytest

from arriero.state_stores import MemoryStore, SqliteStore, open_store, store_from_uri
from arriero.types.errors import ConfigurationError


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///state.db", Path("state.db").resolve()),
        ("sqlite:///.arriero/state.db", Path(".arriero/state.db").resolve()),
        ("SQLite:////var/lib/arriero/state.db", Path("/var/lib/arriero/state.db").resolve()),
        ("sqlite:///a folder/%41.db", Path("a folder/%41.db").resolve()),
    ],
)
def test_a_sqlite_uri_names_a_file(uri: str, path: Path) -> None:
    store = open_store(uri)
    assert isinstance(store, SqliteStore)
    assert store.path == path


@pytest.mark.parametrize("uri", ["memory:", "memory://", "MEMORY:"])
def test_a_memory_uri_gives_a_new_store_each_time(uri: str) -> None:
    assert isinstance(open_store(uri), MemoryStore)
    assert open_store(uri) is not open_store(uri)


def test_both_names_are_one() -> None:
    assert store_from_uri is open_store


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:", "sqlite://", "sqlite:///", "sqlite:state.db", "sqlite:/state.db", "sqlite://host/state.db",
        "sqlite:///:memory:", "sqlite:///folder/", "sqlite:///state.db?mode=ro", "sqlite:///a\0b", "memory:name",
        "mongodb://localhost", "mongodb+srv://localhost", "mysql://localhost", "http://localhost", 7, None, object(),
        Path("state.db"), "state.db", "",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_the_setting_and_the_choice(uri: object) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_store(uri)  # type: ignore[arg-type]  # what a program may pass all the same
    assert "state_store_uri" in refusal.value.message
    assert "sqlite:///relative/path.db" in refusal.value.message
    assert "memory:" in refusal.value.message


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "redis", "rediss", "unix"])
def test_what_is_planned_is_not_available_in_this_version(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{scheme} is not available in this version; set state_store_uri to"):
        open_store(f"{scheme}://localhost")


def test_a_refusal_repeats_no_secret() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_store("mongodb://user:secret@host/db")
    assert "secret" not in refusal.value.message
