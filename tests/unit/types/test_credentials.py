from pathlib import Path

import pytest

from arriero.client import ClientSettings
from arriero.types.credentials import CredentialSettings, token_file
from arriero.types.errors import ConfigurationError
from arriero.types.secrets import kept_token

TOKEN = "sent-5f0c9be2a7d10e"
LOCAL, FAR = "http://127.0.0.1:8000", "http://core.example:8000"


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARRIERO_TOKEN", "ARRIERO_CLIENT_TOKEN", "CONTROL_PLANE_STATE_STORE_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["ARRIERO_TOKEN", "ARRIERO_CLIENT_TOKEN"])
def test_the_token_to_send_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert CredentialSettings().authorization(LOCAL) is None
    monkeypatch.setenv(name, TOKEN)
    for settings in (CredentialSettings(), ClientSettings()):
        assert settings.authorization(LOCAL) == settings.authorization(FAR) == f"Bearer {TOKEN}"
        assert TOKEN not in repr(settings) + str(settings) + settings.model_dump_json()


def test_the_longer_name_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_TOKEN", "other-5f0c9be2a7d10e")
    monkeypatch.setenv("ARRIERO_CLIENT_TOKEN", TOKEN)
    assert CredentialSettings().authorization(LOCAL) == f"Bearer {TOKEN}"


@pytest.mark.parametrize("token", ["", "short", "changeme", "sent-5f0c9be2a7d1\r\nX: 1", "sent-5f0c9be2a7d1é"])
def test_what_is_no_token_is_not_sent(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("ARRIERO_TOKEN", token)
    with pytest.raises(ConfigurationError, match="ARRIERO_TOKEN"):
        CredentialSettings().authorization(LOCAL)


def test_an_address_with_credentials_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_TOKEN", TOKEN)
    assert CredentialSettings().authorization("http://name:word@127.0.0.1:8000") is None


def test_the_local_token_is_for_this_machine_alone() -> None:
    token = kept_token(Path(".arriero/token"))
    settings = CredentialSettings()
    for url in (LOCAL, "http://localhost:1", "http://[::1]:8000"):
        assert settings.authorization(url) == f"Bearer {token}"
    for url in (FAR, "http://localhost.evil.example", "http://10.0.0.1:8000", "http://0.0.0.0:8000"):
        assert settings.authorization(url) is None


def test_the_local_token_lies_beside_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_file(None) == Path(".arriero/token")
    assert token_file("sqlite:////var/core/state.db") == Path("/var/core/state.db.token")
    assert token_file("sqlite:///here.db") == Path("here.db.token")
    assert token_file("memory:") is None
    token = kept_token(tmp_path / "x.db.token")
    monkeypatch.setenv("CONTROL_PLANE_STATE_STORE_URI", f"sqlite:///{tmp_path}/x.db")
    assert CredentialSettings().authorization(LOCAL) == f"Bearer {token}"


def test_a_local_token_that_others_may_read_is_not_sent() -> None:
    kept_token(Path(".arriero/token"))
    Path(".arriero/token").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        CredentialSettings().authorization(LOCAL)
