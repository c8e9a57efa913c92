"""Walk the files below a folder, one folder at a time."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

from datasets_vision.dicom import DICOM_SUFFIXES
from datasets_vision.errors import DataError
from datasets_vision.example import SYNTHETIC_MARKER

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}) | DICOM_SUFFIXES

UNREAD_SUFFIXES = frozenset({".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd"})
"""Suffixes of photos that must be converted."""

_WORDS = re.compile("[0-9]+|[^0-9/]+|/")
_SYSTEM = re.compile(r"\._.*|\.DS_Store|__MACOSX|Thumbs\.db|desktop\.ini")  # what macOS and Windows add to folders

Skipped = list[tuple[Path, str]]
"""Folders that are not read, each with the reason."""

_LISTING: ContextVar[tuple[Path, list[tuple[Path, str]]] | None] = ContextVar("_LISTING", default=None)
"""A path, and the folder and name of every file below it, while `walked_once` is active."""


def walk(path: Path, suffixes: Collection[str] = (), *, skipped: Skipped | None = None) -> Iterator[Path]:
    """Every file below `path` (or `path` itself, if it is a file), in natural order: 2 before 10.

    `suffixes` (in lower case) selects files by suffix, ignoring case. The marker of synthetic sets, the files that
    macOS and Windows add to folders, pipes and devices are left out. Links to files are followed. Hidden folders and
    links to folders are not, but are added to `skipped`. A broken link to an image is included, so that the format can
    set it aside. Only the entries of one branch of folders are held in memory. Raises DataError for a folder that
    cannot be listed, and for any other broken link, which may have pointed to the labels.
    """
    listing = _LISTING.get()
    if listing is not None and listing[0] == path:
        found: Iterable[tuple[Path, str]] = listing[1]
    else:
        found = _walk(path, [] if skipped is None else skipped)
    return (folder / name for folder, name in found if not suffixes or suffix_of(name) in suffixes)


def files_of(path: Path, *suffixes: str) -> Iterator[Path]:
    """The files that `walk` finds with one of these suffixes, without hidden ones."""
    return (file for file in walk(path, suffixes) if file.name[0] != ".")


@contextmanager
def walked_once(path: Path) -> Iterator[None]:
    """In this context, `walk` lists the files below `path` only once, and keeps the list in memory."""
    token = _LISTING.set((path, list(_walk(path, []))))
    try:
        yield
    finally:
        _LISTING.reset(token)


def folded(name: str) -> str:
    """A name without what file systems and archives change: the case of letters, and how accents are encoded."""
    return unicodedata.normalize("NFC", name).casefold()


def found_as(path: Path) -> Path | None:
    """The file at `path`, else the only one in its folder with the same `folded` name."""
    if os.path.isfile(path):  # also False if the system rejects the name
        return path
    with suppress(OSError, ValueError):
        names = _names_by_folded(path.parent, path.parent.stat().st_mtime_ns).get(folded(path.name), [])
        return path.with_name(names[0]) if len(names) == 1 else None
    return None


@lru_cache(maxsize=256)
def _names_by_folded(folder: Path, _changed: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for file in folder.iterdir():
        if file.is_file():
            found[folded(file.name)].append(file.name)
    return found


def skipped_folders(path: Path) -> Skipped:
    """The folders below `path` that `walk` skips, each with the reason."""
    skipped: Skipped = []
    for _ in _walk(path, skipped) if path.is_dir() else ():
        pass
    return skipped


def is_synthetic(path: Path) -> bool:
    """Whether `path`, or the folder that contains it, has the marker of the generators."""
    folder = path.resolve()
    return any((place / SYNTHETIC_MARKER).is_file() for place in (folder, folder.parent))


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """A sort key that orders numbers by value and ignores case, folder by folder."""
    return _key(path.as_posix())


def suffix_of(name: str) -> str:
    """The suffix of a file name, as in `Path.suffix` but in lower case."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def _key(text: str) -> list[tuple[int, int, str]]:
    words = _WORDS.findall(text)
    return [(1, int(word), word) if word.isdecimal() else (word != "/", 0, word.casefold()) for word in words]


def _walk(path: Path, skipped: Skipped) -> Iterator[tuple[Path, str]]:
    """The folder and name of each file; a folder that is skipped is added to `skipped` with the reason."""
    if path.is_file():
        yield path.parent, path.name
        return
    try:
        with os.scandir(path) as entries:
            here = sorted(entries, key=lambda entry: _key(entry.name))
    except OSError as error:
        why = error.strerror or error
        raise DataError(path, f"cannot be read ({why})", "give a file, or a folder that can be listed") from error
    for entry in here:
        if _SYSTEM.fullmatch(entry.name):
            continue
        if entry.is_symlink() and os.path.isdir(entry):
            skipped.append((path / entry.name, "links to folders are not followed"))
        elif entry.is_dir(follow_symlinks=False) and entry.name[0] == ".":
            skipped.append((path / entry.name, "hidden folders are not read"))
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path / entry.name, skipped)
        elif entry.name != SYNTHETIC_MARKER and _is_included(path, entry):
            yield path, entry.name


def _is_included(folder: Path, entry: os.DirEntry[str]) -> bool:
    try:
        if entry.is_file():
            return True
        lost = entry.is_symlink() and not os.path.exists(entry)
    except OSError:  # a loop of links
        lost = True
    if not lost or entry.name[0] == ".":
        return False
    if suffix_of(entry.name) not in IMAGE_SUFFIXES:
        raise DataError(folder / entry.name, "a broken link", "remove it, or point it to its file")
    return True
