import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.types.errors import ConfigurationError
from arriero.types.secrets import checked, found_token, kept_token
from arriero.types.tokens import Scope, Tokens, TokenSettings

ONE, TWO, THREE = "one-5f0c9be2a7d1", "two-5f0c9be2a7d1", "three-5f0c9be2a7d1"


@pytest.fixture(autouse=True)
def no_tokens_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARRIERO_TOKENS", "ARRIERO_TOKENS_FILE"):
        monkeypatch.delenv(name, raising=False)


def listed(text: str) -> list[tuple[Scope, str]]:
    return list(TokenSettings(tokens=text).pairs())


def test_tokens_are_written_as_pairs_or_as_a_json_object() -> None:
    pairs = [(Scope.READ, ONE), (Scope.RUN, TWO), (Scope.DEPLOY, THREE)]
    assert listed(f"read:{ONE},run:{TWO}, deploy:{THREE}") == pairs
    assert listed(f'{{"read": "{ONE}", "run": ["{TWO}"], "deploy": "{THREE}"}}') == pairs
    assert list(TokenSettings().pairs()) == []


def test_tokens_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_TOKENS", f"run:{ONE}")
    settings = TokenSettings()
    assert list(settings.pairs()) == [(Scope.RUN, ONE)]
    assert ONE not in repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        ONE,
        f"admin:{ONE}",
        "read:",
        "read:short",
        "deploy:changeme",
        "deploy:CHANGE_ME_BEFORE_YOU_START",
        "deploy:change-me-please-9f8e7d6c5b4a",
        "deploy:secretsecretsecret",
        "deploy:my_secret_password",
        "deploy:aaaaaaaaaaaaaaaaaaaaaaaa",
        f"read:{ONE},deploy:{ONE}x y",
        f"read:{ONE}é",
        f"read:{ONE}\r\nX-Other: 1",
        f"read:{ONE}\0",
        f"read:{ONE}'",
        f"read:{ONE}%20",
        "read:" + "ab3" * 1000,
        "{",
        "{}",
        '{"read": 5}',
        f'{{"read": {{"x": "{ONE}"}}}}',
        f'{{"owner": "{ONE}"}}',
    ],
)
def test_what_is_wrong_or_weak_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ARRIERO_TOKENS") as caught:
        listed(text)
    assert ONE not in str(caught.value)
    assert "CHANGE_ME_BEFORE" not in str(caught.value)


def test_a_token_has_one_scope() -> None:
    with pytest.raises(ConfigurationError, match="two scopes"):
        Tokens([(Scope.READ, ONE), (Scope.RUN, ONE)])


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_file_holds_a_scope_and_a_token_on_each_line(tmp_path: Path) -> None:
    file = private(tmp_path / "tokens", f"# who is who\n\nread {ONE}\n  deploy\t{TWO}  \n")
    assert list(TokenSettings(tokens_file=file).pairs()) == [(Scope.READ, ONE), (Scope.DEPLOY, TWO)]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_file_that_others_may_use_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    file = private(tmp_path / "tokens", f"read {ONE}\n", mode)
    with pytest.raises(ConfigurationError, match=r"read by others .*chmod 600"):
        list(TokenSettings(tokens_file=file).pairs())


@pytest.mark.parametrize("text", ["", "# nothing\n", f"{ONE}\n", f"read {ONE} more\n", "read short\n"])
def test_a_file_with_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="ARRIERO_TOKENS_FILE"):
        list(TokenSettings(tokens_file=private(tmp_path / "tokens", text)).pairs())


def test_a_file_that_is_not_there_or_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(TokenSettings(tokens_file=tmp_path / "nowhere").pairs())
    with pytest.raises(ConfigurationError):
        list(TokenSettings(tokens_file=tmp_path).pairs())


def header(token: str) -> bytes:
    return f"Bearer {token}".encode()


def test_a_header_opens_what_its_token_opens() -> None:
    tokens = Tokens([(Scope.READ, ONE), (Scope.DEPLOY, TWO)])
    for _ in range(2):  # the second time it is remembered
        assert tokens.scope_of(header(ONE)) is Scope.READ
        assert tokens.scope_of(header(TWO)) is Scope.DEPLOY
        assert tokens.scope_of(b"bearer  " + TWO.encode()) is Scope.DEPLOY
        assert tokens.scope_of(header(THREE)) is None
    assert Scope.READ < Scope.RUN < Scope.DEPLOY


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic " + ONE.encode(),
        ONE.encode(),
        b"Bearer\t" + ONE.encode(),
        header(ONE) + b"x",
        header(ONE)[:-1],
        header(ONE + "," + TWO),
        header(ONE).upper(),
        b"Bearer " + b"x" * 1_000_000,
        b"Bearer \xff\xfe",
    ],
)
def test_anything_else_opens_nothing(wrong: bytes) -> None:
    assert Tokens([(Scope.READ, ONE), (Scope.DEPLOY, TWO)]).scope_of(wrong) is None


@given(st.binary(max_size=64))
def test_no_bytes_open_anything_by_chance(value: bytes) -> None:
    assert Tokens([(Scope.DEPLOY, ONE)]).scope_of(b"Bearer " + value) is None


def test_no_token_is_shown() -> None:
    tokens = Tokens([(Scope.DEPLOY, ONE)])
    assert ONE not in repr(tokens) + str(tokens)


def test_a_core_keeps_the_token_that_it_made_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    token = kept_token(path)
    assert kept_token(path) == token == found_token(path) == checked(token, "it")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path.name for path in path.parent.iterdir()] == ["token"]
    assert kept_token(tmp_path / "other") != token


def test_what_is_no_token_file_is_left_alone(tmp_path: Path) -> None:
    file = private(tmp_path / "token", "a shopping list\n")
    with pytest.raises(ConfigurationError):
        kept_token(file)
    assert file.read_text("utf-8") == "a shopping list\n"
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        kept_token(file)


def test_a_local_file_counts_from_when_it_is_there(tmp_path: Path) -> None:
    tokens = Tokens(local=tmp_path / "token")
    assert not tokens
    token = kept_token(tmp_path / "token")
    assert tokens
    assert tokens.scope_of(header(token)) is Scope.DEPLOY
