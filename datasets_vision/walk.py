"""The files below a folder, one folder at a time: a set is never listed whole in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from datasets_vision.dicom import DICOM_SUFFIXES
from datasets_vision.errors import DataError
from datasets_vision.example import SYNTHETIC_MARKER
from datasets_vision.index import scratch

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}) | DICOM_SUFFIXES

_WORDS = re.compile("[0-9]+|[^0-9/]+|/")


@dataclass(frozen=True, slots=True)
class _Listing:
    """What a walk of `path` gave, in a table `files` of suffix, folder and name, in the walk's order."""

    path: Path
    database: Connection


_LISTING: ContextVar[_Listing | None] = ContextVar("_LISTING", default=None)


def walk(path: Path, suffixes: Collection[str] = ()) -> Iterator[Path]:
    """Every file below `path` (or `path` itself, if it is one), in natural order: 2 before 10.

    With `suffixes` (in lower case), those alone that end so in any case. The mark of a made set is not among them,
    nor are pipes and devices. Links to files are followed, links to folders are not (`linked_folders` lists them); an
    image's link that leads nowhere is given, for its format to set it aside. Only the names of one branch's folders
    are held. Raises DataError for a folder that cannot be listed, and for any other link that leads nowhere: what it
    stood for may be the labels.
    """
    listing = _LISTING.get()
    if listing is not None and listing.path == path:
        return _listed(listing, suffixes)
    return (folder / name for folder, name in _walk(path) if not suffixes or suffix_of(name) in suffixes)


@contextmanager
def walked_once(path: Path) -> Iterator[None]:
    """Inside, every `walk` of `path` goes over one listing, which is made here and lies in a scratch file."""
    with closing(scratch()) as database:
        database.execute("CREATE TABLE files (suffix BLOB, folder BLOB, name BLOB)")
        rows = ((os.fsencode(suffix_of(name)), os.fsencode(folder), os.fsencode(name)) for folder, name in _walk(path))
        database.executemany("INSERT INTO files VALUES (?, ?, ?)", rows)
        database.execute("CREATE INDEX by_suffix ON files (suffix)")
        token = _LISTING.set(_Listing(path, database))
        try:
            yield
        finally:
            _LISTING.reset(token)


def linked_folders(path: Path) -> Iterator[Path]:
    """The links to folders below `path`, into which no walk goes, in natural order."""
    if not path.is_dir():
        return
    with os.scandir(path) as entries:
        here = sorted(filter(_leads_to_folder, entries), key=lambda entry: _key(entry.name))
    for entry in here:
        if entry.is_symlink():
            yield path / entry.name
        else:
            yield from linked_folders(path / entry.name)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """A sort key that orders numbers by value and words without case, folder by folder."""
    return _key(path.as_posix())


def suffix_of(name: str) -> str:
    """The suffix of a file's name as `Path.suffix` has it, in lower case."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def _key(text: str) -> list[tuple[int, int, str]]:
    words = _WORDS.findall(text)
    return [(1, int(word), word) if word.isdecimal() else (word != "/", 0, word.casefold()) for word in words]


def _walk(path: Path) -> Iterator[tuple[Path, str]]:
    """Each file's folder and name."""
    if path.is_file():
        yield path.parent, path.name
        return
    try:
        with os.scandir(path) as entries:
            here = sorted(entries, key=lambda entry: _key(entry.name))
    except OSError as error:
        why = error.strerror or error
        raise DataError(path, f"cannot be read ({why})", "give a file, or a folder that you may list") from error
    for entry in here:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path / entry.name)
        elif entry.name != SYNTHETIC_MARKER and _is_given(path, entry):
            yield path, entry.name


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry))


def _is_given(folder: Path, entry: os.DirEntry[str]) -> bool:
    try:
        if entry.is_file():
            return True
        lost = entry.is_symlink() and not os.path.exists(entry)
    except OSError:  # links in a circle
        lost = True
    if not lost or entry.name[0] == ".":
        return False
    if suffix_of(entry.name) not in IMAGE_SUFFIXES:
        raise DataError(folder / entry.name, "a link that leads nowhere", "remove it, or point it at its file")
    return True


def _listed(listing: _Listing, suffixes: Collection[str]) -> Iterator[Path]:
    wanted = f"WHERE suffix IN ({', '.join('?' * len(suffixes))})" if suffixes else ""
    rows = listing.database.execute(
        f"SELECT folder, name FROM files {wanted} ORDER BY rowid", [*map(os.fsencode, suffixes)]
    )
    known, folder = b"", Path()
    for parent, name in rows:
        if parent != known:
            known, folder = parent, Path(os.fsdecode(parent))
        yield folder / os.fsdecode(name)
