"""The files below a folder, one folder at a time: a set is never listed whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from datasets_vision.example import SYNTHETIC_MARKER
from datasets_vision.images import IMAGE_SUFFIXES, natural_key
from vlm_ft.errors import DataError


def walk(path: Path) -> Iterator[Path]:
    """Every file below `path` (or `path` itself, if it is one), in natural order: 2 before 10.

    The mark of a made set is not among them, nor are pipes and devices. Links to files are followed, links to
    folders are not; an image's link that leads nowhere is given, for its format to set it aside. Only the names
    of one branch's folders are held. Raises DataError for a folder that cannot be listed, and for any other link
    that leads nowhere: what it stood for may be the labels.
    """
    if path.is_file():
        yield path
        return
    try:
        with os.scandir(path) as entries:
            here = sorted(entries, key=lambda entry: natural_key(Path(entry.name)))
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{path}: cannot be read ({why}); give a file, or a folder that you may list") from error
    for entry in here:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path / entry.name)
        elif entry.name != SYNTHETIC_MARKER and _is_given(path / entry.name, entry):
            yield path / entry.name


def _is_given(path: Path, entry: os.DirEntry[str]) -> bool:
    try:
        if entry.is_file():
            return True
        lost = entry.is_symlink() and not path.exists()
    except OSError:  # links in a circle
        lost = True
    if not lost or entry.name[0] == ".":
        return False
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{path}: a link that leads nowhere; remove it, or point it at its file")
    return True
