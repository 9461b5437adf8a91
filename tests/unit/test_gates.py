from pathlib import Path

import pytest

from tools import gates


def broken(tmp_path: Path, source: str) -> list[str]:
    path = tmp_path / "module.py"
    path.write_text(source, encoding="utf-8")
    return list(gates.broken_gates(path, "module.py"))


def function_of(lines: int) -> str:
    return "\n".join(["def long():", '    """Two lines', '    of text."""', *["    x = 1"] * (lines - 1)])


def test_a_module_may_have_as_many_lines_as_the_gate_says(tmp_path: Path) -> None:
    assert broken(tmp_path, "x = 1\n" * gates.MODULE_LINES) == []


def test_a_module_with_one_line_more_is_named(tmp_path: Path) -> None:
    [line] = broken(tmp_path, "x = 1\n" * (gates.MODULE_LINES + 1))
    assert line.startswith(f"module.py:1: {gates.MODULE_LINES + 1} lines")


def test_a_docstring_does_not_count_as_length(tmp_path: Path) -> None:
    assert broken(tmp_path, function_of(gates.FUNCTION_LINES)) == []


def test_a_long_function_is_named(tmp_path: Path) -> None:
    [line] = broken(tmp_path, function_of(gates.FUNCTION_LINES + 1))
    assert line.startswith("module.py:1: long() has 61 lines")


def test_a_named_exception_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gates.EXCEPTIONS, "module.py::long", "a table that reads better in one piece")
    assert broken(tmp_path, function_of(gates.FUNCTION_LINES + 1)) == []


@pytest.mark.parametrize("comment", ["type: ignore", "type: ignore[misc]", "noqa", "noqa: S101", "noqa: S101, E501  #"])
def test_a_suppression_without_a_reason_is_named(tmp_path: Path, comment: str) -> None:
    [line] = broken(tmp_path, f"\nx = 1  # {comment}\n")
    assert line.startswith("module.py:2: no reason beside")


@pytest.mark.parametrize("comment", ["type: ignore[misc]  # the stub is wrong", "noqa: S101 the kit asserts"])
def test_a_suppression_with_its_reason_is_let_through(tmp_path: Path, comment: str) -> None:
    assert broken(tmp_path, f"x = 1  # {comment}\n") == []


def test_a_string_that_looks_like_a_suppression_is_none(tmp_path: Path) -> None:
    assert broken(tmp_path, 'x = "# type: ignore"\n') == []
