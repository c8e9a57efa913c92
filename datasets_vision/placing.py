"""Write files and folders atomically: under a temporary name that is replaced once they are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from datasets_vision.errors import DataError

_REMEDY = "give a writable path"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to `path` at the end; after an error it is deleted and `path` is unchanged.

    Missing parent folders are created. Raises DataError if that fails, or if `path` is a folder or a device.
    """
    part = beside(path, ".part")
    with _as_data_error(path, part):
        if path.exists() and not path.is_file():
            raise DataError(path, "is not a file", "give a file name")
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _as_data_error(path, part):
            yield part
            os.replace(part, path)
    finally:
        with _as_data_error(path, part):
            part.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to write in, renamed to `folder` at the end; after an error it is deleted.

    Raises DataError if `folder` has files, is a file, or cannot be created.
    """
    part = beside(folder, ".part")
    with _as_data_error(folder, part):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(folder, "is not empty", "give a new folder, or remove it first")
        if part.exists():
            raise DataError(part, "was left by an interrupted run, or belongs to one in progress", "remove it")
        part.mkdir(parents=True)
    try:
        with _as_data_error(folder, part):
            yield part
            part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def complete_lines(log: Path) -> list[str]:
    """The lines of a file that is only appended to; an incomplete last one, left by an interrupted run, is cut off.

    Raises DataError, and changes nothing, if the complete lines are not UTF-8.
    """
    data = log.read_bytes() if log.exists() else b""
    end = data.rfind(b"\n") + 1
    try:
        lines = data[:end].decode().split("\n")[:-1]
    except UnicodeDecodeError as error:
        number = 1 + data.count(b"\n", 0, error.start)
        raise DataError(f"{log}:{number}", f"not UTF-8: byte 0x{data[error.start]:02x}", "restore the file") from error
    if end < len(data):
        os.truncate(log, end)
    return lines


def end_line(file: BinaryIO) -> None:
    """End the last line of a file that is open to read and append; a crash or a full disk may have cut it off."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def beside(path: Path, suffix: str) -> Path:
    """The path with a suffix added to its name; raises DataError for a path without a name, such as `.`."""
    if not path.name or path.name == "..":
        raise DataError(f"{str(path)!r}", "is not a file or folder name", "give one")
    return path.with_name(f"{path.name}{suffix}")


@contextmanager
def _as_data_error(path: Path, part: Path) -> Iterator[None]:
    """Turn system errors about the target into a DataError; errors about other files pass through."""
    try:
        yield
    except OSError as error:
        concerned = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else part
        if not {part, path, path.parent} & {concerned, *concerned.parents}:
            raise
        raise DataError(path, f"cannot be written ({error.strerror or error})", _REMEDY) from error
    except ValueError as error:
        if "null byte" not in str(error):
            raise
        raise DataError(path, f"cannot be written ({error})", _REMEDY) from error
