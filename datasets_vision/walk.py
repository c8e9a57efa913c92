"""The files below a folder, one folder at a time: a set is never listed whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from datasets_vision.example import SYNTHETIC_MARKER
from datasets_vision.images import natural_key


def walk(path: Path) -> Iterator[Path]:
    """Every file below `path` (or `path` itself, if it is one), in natural order: 2 before 10.

    The mark of a made set is not among them. Links to files are followed, links to folders are not. Only the names of one branch's folders are held.
    """
    if path.is_file():
        yield path
        return
    with os.scandir(path) as entries:
        here = sorted(entries, key=lambda entry: natural_key(Path(entry.name)))
    for entry in here:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path / entry.name)
        elif entry.is_file() and entry.name != SYNTHETIC_MARKER:
            yield path / entry.name
