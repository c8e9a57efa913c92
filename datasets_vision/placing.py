"""Writing what takes a while: under another name, and under its own only when all of it is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets_vision.errors import DataError

_REMEDY = "give a place that can be written"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The name to write to, which becomes `path` at the end; after an error nothing is left, and `path` is as it was.

    Folders above are made. Raises DataError where that cannot be, and where `path` is a folder or a device.
    """
    part = path.with_name(f"{_name(path)}.part")
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
    """A folder to write in, which becomes `folder` at the end; after an error nothing is left.

    Raises DataError where `folder` has files, is a file, or cannot be made.
    """
    part = folder.with_name(f"{_name(folder)}.part")
    with _as_data_error(folder, part):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(folder, "is not empty", "give a new folder, or remove it first")
        if part.exists():
            raise DataError(part, "is left of a run that was cut off, or still goes on", "remove it")
        part.mkdir(parents=True)
    try:
        with _as_data_error(folder, part):
            yield part
            part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _name(path: Path) -> str:
    if not path.name or path.name == "..":
        raise DataError(f"{str(path)!r}", "names no file or folder to write", "give one")
    return path.name


@contextmanager
def _as_data_error(path: Path, part: Path) -> Iterator[None]:
    """Turns what the system says about writing into a DataError; what it says about other files is left alone."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            concerned = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else part
            if not {part, path, path.parent} & {concerned, *concerned.parents}:
                raise
            raise DataError(path, f"cannot be written ({error.strerror or error})", _REMEDY) from error
        if "null byte" not in str(error):
            raise
        raise DataError(path, f"cannot be written ({error})", _REMEDY) from error
