"""A folder of text files, read with care: what it holds was not written for this program."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".md", ".txt")


class FolderError(ValueError):
    """The folder cannot be searched. The message says why."""


@dataclass(frozen=True)
class Limits:
    """How much is read, in files, entries of folders, and bytes."""

    files: int = 2_000
    entries: int = 50_000
    file_bytes: int = 4 * 1024 * 1024
    total_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True)
class TextFile:
    """One file; ``name`` is its path from the folder, with forward slashes."""

    name: str
    text: str


@dataclass
class Folder:
    """What was read, and the names of what was left out with the reason."""

    files: list[TextFile] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def read_folder(path: str | Path, limits: Limits = Limits()) -> Folder:
    """Every text file below ``path``, in the order of their names.

    Hidden entries are not looked at. Links that lead out of the folder, what is no regular file, what is too large and
    what is not UTF-8 text are skipped and named. More than the limits is a :class:`FolderError`, as is a folder that
    is not there: an answer from a part of the folder would pass for an answer from all of it.
    """
    root = _existing(path)
    folder, total = Folder(), 0
    for file in _text_files(root, limits):
        name = file.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()
        try:
            data = _bytes_of(file, root, limits)
            text = data.decode("utf-8-sig")
        except (_Skipped, OSError, UnicodeDecodeError) as error:
            folder.skipped[name] = _reason(error)
            continue
        total += len(data)
        folder.files.append(TextFile(name, text))
        if len(folder.files) > limits.files or total > limits.total_bytes:
            raise FolderError(
                f"{root} holds more than {limits.files:,} text files or {limits.total_bytes:,} bytes of text: "
                "name a folder within it"
            )
    return folder


class _Skipped(Exception):
    pass


def _existing(path: str | Path) -> Path:
    if not str(path) or "\0" in str(path):
        raise FolderError("no folder was named")
    try:
        root = Path(os.path.realpath(path, strict=True))
        with os.scandir(root):
            return root
    except FileNotFoundError:
        raise FolderError(f"there is no folder {path}") from None
    except NotADirectoryError:
        raise FolderError(f"{path} is not a folder") from None
    except OSError as error:
        raise FolderError(f"the folder {path} cannot be read: {error.strerror}") from error


def _text_files(root: Path, limits: Limits) -> list[Path]:
    found, entries = [], 0
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        entries += len(folders) + len(files)
        if entries > limits.entries:
            raise FolderError(f"{root} holds more than {limits.entries:,} files and folders: name a folder within it")
        found += [Path(parent, name) for name in sorted(files) if _is_wanted(name)]
    return found


def _is_wanted(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _bytes_of(file: Path, root: Path, limits: Limits) -> bytes:
    if not Path(os.path.realpath(file, strict=True)).is_relative_to(root):
        raise _Skipped("a link out of the folder")
    facts = file.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise _Skipped("not a regular file")
    if facts.st_size > limits.file_bytes:
        raise _Skipped(f"larger than {limits.file_bytes:,} bytes")
    data = file.read_bytes()
    if b"\0" in data:
        raise _Skipped("not text")
    return data


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
