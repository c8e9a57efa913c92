"""Image folders: `class/*.jpg` or `split/class/*.jpg`, with more columns from a `labels.csv` (file, ...).

`file` is a path relative to `labels.csv` or a bare name; its suffix may differ if the match is unambiguous. The column
`class` names the image's class if no folder does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import TypedDict

from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.roles import role_and_folders
from datasets_vision.formats.table_files import read_table
from datasets_vision.images import IMAGE_SUFFIXES, image_size
from datasets_vision.index import DiskIndex
from datasets_vision.walk import suffix_of, walk

LABELS = "labels.csv"

_ANNOTATIONS = frozenset({".json", ".jsonl", ".xml", ".txt", ".yaml", ".yml", ".dcm"})
_PROSE = ("readme", "license", "licence", "notice")


def matches(path: Path) -> bool:
    """Images, and no file that may hold the annotations of another format."""
    if not path.is_dir():
        return False
    if not all(file.name.lower().startswith(_PROSE) for file in walk(path, _ANNOTATIONS)):
        return False
    return next(walk(path, IMAGE_SUFFIXES), None) is not None


def read(source: Source) -> Iterator[Example | SetAside]:
    """The class is the first folder (below the split's, if there is one); the names of deeper folders are ignored.

    An image without a class folder is usable only if `image_class` finds its class or labels.csv names it.
    """
    if not source.path.is_dir():
        raise DataError(source.path, "not a folder of images", "give the folder")
    with DiskIndex() as rows:
        yield from read_labels(source, rows)
        for path in walk(source.path):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield _example(source, path, row_of(rows, path.relative_to(source.path)))
            elif path != source.path / LABELS:
                yield SetAside(str(path), f"{path.suffix!r} is not an image suffix")
        yield from missing(source, rows)


def read_labels(source: Source, rows: DiskIndex) -> Iterator[SetAside]:
    """Store the rows of labels.csv, if there is one, in `rows` by the stem of their file."""
    path = source.path / LABELS
    if not path.is_file():
        source.require_columns(source.path, source.columns.values(), ())
        return
    header, found = read_table(path)
    source.require_columns(path, {"file", *source.columns.values()}, header)
    for row in found:
        if isinstance(row, SetAside):
            yield row
            continue
        name = PureWindowsPath(row.cells.pop("file").strip()).as_posix()
        if not _add(rows, name, _Row(line=row.line, cells=row.cells, owned=False)):
            yield SetAside(f"{path}:{row.line}", f"a second row for {name!r}")
    for file in walk(source.path):
        _mark_owned(rows, file.relative_to(source.path))


def row_of(rows: DiskIndex, image: Path) -> dict[str, str]:
    """Remove an image's row from `rows` and return its cells; {} if labels.csv does not name the image.

    A row with another suffix matches if no other row has its stem and no file has the row's exact name.
    """
    names = (image.as_posix(), image.name)
    for exact in (True, False):
        for name in names:
            held = _rows_of_stem(rows, name)
            found = name if exact else next(iter(held)) if len(held) == 1 else ""
            row = held.get(found)
            if row is None or row["cells"] is None or (row["owned"] and not exact):
                continue
            _store(rows, name, {**held, found: {**row, "cells": None}})
            return row["cells"]
    return {}


def missing(source: Source, rows: DiskIndex) -> Iterator[SetAside]:
    """Set aside the rows that belong to no image."""
    for stem, _ in rows.items():
        for name, row in _rows_of_stem(rows, stem).items():
            if row["cells"] is not None:
                yield SetAside(f"{source.path / LABELS}:{row['line']}", f"its image {name!r} is missing", about="image")


class _Row(TypedDict):
    line: int
    cells: dict[str, str] | None  # None once an image has taken them
    owned: bool  # a file has exactly the name in the row


def _rows_of_stem(rows: DiskIndex, name: str) -> dict[str, _Row]:
    """The rows of one stem, by the file name in each."""
    return dict(json.loads(rows.get(_without_suffix(name)) or "{}"))


def _store(rows: DiskIndex, name: str, held: dict[str, _Row]) -> None:
    rows.pop(_without_suffix(name))
    rows.add(_without_suffix(name), json.dumps(held))


def _add(rows: DiskIndex, name: str, row: _Row) -> bool:
    held = _rows_of_stem(rows, name)
    if name in held:
        return False
    _store(rows, name, {**held, name: row})
    return True


def _mark_owned(rows: DiskIndex, file: Path) -> None:
    """Mark the rows that name this file exactly: no image with another suffix may take them."""
    for name in {file.as_posix(), file.name}:
        held = _rows_of_stem(rows, name)
        if name in held and not held[name]["owned"]:
            _store(rows, name, {**held, name: {**held[name], "owned": True}})


def _without_suffix(name: str) -> str:
    """A name without its image suffix, as in ids: a row may name the file from which the image was converted."""
    suffix = suffix_of(name)
    return name[: -len(suffix)] if suffix in IMAGE_SUFFIXES else name


def _example(source: Source, path: Path, cells: dict[str, str]) -> Example | SetAside:
    relative = path.relative_to(source.path)
    role, folders = role_and_folders(relative.parent)
    if not folders and not cells and source.image_class is None:
        return SetAside(str(path), "not in a class folder", f"move it into one, or give image_class or {LABELS}")
    try:
        image_size(path)
    except DataError as error:
        return SetAside.of(path, error)
    written = cells.pop("class", "") if not folders else ""
    return Example(
        id=relative.with_suffix("").as_posix(),
        images=(path,),
        label=Label(image_class=folders[0] if folders else written or None, columns=cells),
        source=str(path),
        role=role,
    )
