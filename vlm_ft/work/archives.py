"""Unpack untrusted zip files below one folder, within limits that are checked while writing.

Photos lose their metadata.
"""

from __future__ import annotations

import errno
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from datasets_vision.metadata import remove_metadata
from datasets_vision.walk import IMAGE_SUFFIXES
from vlm_ft.errors import DataError, cause

MAX_FILES = 100_000  # in a zip file
EXPANSION, SPARE = 20, 50_000_000  # a zip file unpacks to at most 20 times its size, and 50 MB more


def unpack_photos(archive: BinaryIO, folder: Path) -> None:
    """Write the images of a zip file into a folder; other files are left out.

    Files keep their folders, but nothing is written outside `folder`. Raises `DataError` as `_unpack` does.
    """
    if not _unpack(archive, folder, _image_place):
        raise DataError("zip", "contains no image", "send photos")


def unpack_data(archive: BinaryIO, folder: Path) -> Path:
    """Write the files of a zip file into a new folder, and return the folder of the data set.

    That is `folder`, or the only folder in it. Raises `DataError` as `_unpack` does, and for links and for names that
    lead out of the folder.
    """
    folder.mkdir()
    if not _unpack(archive, folder, _data_place):
        raise DataError("zip", "contains no file", "send a data set")
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
        folder = inside[0]
    return folder


def _unpack(archive: BinaryIO, folder: Path, place_of: Callable[[zipfile.ZipInfo, Path], Path | None]) -> int:
    """Write those files of a zip file that have a place, and return their number.

    Raises `DataError` for a file that cannot be unpacked, for two files of one name, for more than `MAX_FILES`, and for
    more bytes than photos take, counted as they are written.
    """
    limit = EXPANSION * archive.seek(0, os.SEEK_END) + SPARE
    places = set[Path]()
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                place = place_of(entry, folder)
                if place is None:
                    continue
                if place in places or len(places) == MAX_FILES:
                    problem = "occurs twice" if place in places else f"is one of more than {MAX_FILES} files"
                    raise DataError(place.name, problem, "send several zip files")
                places.add(place)
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, place.open("wb") as file:
                    limit -= _copy(source, file, limit)
                remove_metadata(place)
    except (zipfile.BadZipFile, lzma.LZMAError, zlib.error, RuntimeError, ValueError, EOFError, OSError) as error:
        if isinstance(error, DataError) or getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise DataError("zip", f"cannot be unpacked ({cause(error)})", "send a plain zip file") from error
    return len(places)


def _image_place(entry: zipfile.ZipInfo, folder: Path) -> Path | None:
    """Where an entry is written; None if it is not an image."""
    parts = [part for part in PurePosixPath(entry.filename.replace("\\", "/")).parts if part not in ("/", "..")]
    if entry.is_dir() or not parts or Path(parts[-1]).suffix.lower() not in IMAGE_SUFFIXES:
        return None
    return folder.joinpath(*parts)


def _data_place(entry: zipfile.ZipInfo, folder: Path) -> Path | None:
    """Where an entry is written; None if it is a folder or hidden. Raises `DataError` for a link and a path outside."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if stat.S_ISLNK(entry.external_attr >> 16):  # the upper half holds the mode on Unix
        raise DataError("zip", f"{path.name!r} is a link", "pack the file itself")
    if path.is_absolute() or ".." in path.parts:
        raise DataError("zip", f"{str(path)[:80]!r} leads out of the data set's folder", "pack the folder as it is")
    hidden = any(part[0] == "." or part == "__MACOSX" for part in path.parts)
    return None if entry.is_dir() or hidden or not path.parts else folder.joinpath(*path.parts)


def _copy(source: IO[bytes], file: IO[bytes], limit: int) -> int:
    """Copy a file of at most `limit` bytes, and return its size."""
    size = 0
    while piece := source.read(1 << 20):
        size += len(piece)
        if size > limit:
            raise DataError("zip", "unpacks to many times its size", "send photos, each compressed on its own")
        file.write(piece)
    return size
