"""Image folders: `class/*.jpg`, or `split/class/*.jpg`, and with a `labels.csv` (file, ...) columns beside.

The file is named relative to `labels.csv`, or by its bare name; the suffix may be another.
Its column `class` names the image's class where no folder does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from datasets_vision.example import Example, Label
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.roles import role_and_folders
from datasets_vision.formats.table_files import read_table
from datasets_vision.images import IMAGE_SUFFIXES, image_size
from datasets_vision.index import DiskIndex
from datasets_vision.walk import suffix_of, walk
from vlm_ft.errors import DataError

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
    """The class is the first folder (below the split's, if it has one); deeper folders only sort.

    An image without a class folder is usable only where `image_class` finds its class, or labels.csv has it.
    """
    if not source.path.is_dir():
        raise DataError(f"{source.path}: not a folder of images; give the folder")
    with DiskIndex() as rows:
        yield from read_labels(source, rows)
        for path in walk(source.path):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield _example(source, path, row_of(rows, path.relative_to(source.path)))
            elif path != source.path / LABELS:
                yield SetAside(str(path), f"not an image by its suffix {path.suffix!r}")
        yield from missing(source, rows)


def read_labels(source: Source, rows: DiskIndex) -> Iterator[SetAside]:
    """Put the rows of labels.csv, where there is one, under the names of their files, without an image's suffix."""
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
        if not rows.add(_bare(name), json.dumps([row.line, name, row.cells])):
            yield SetAside(f"{path}:{row.line}", f"a second row for {name!r}")


def row_of(rows: DiskIndex, image: Path) -> dict[str, str]:
    """The cells of an image's row, which is taken out; none where labels.csv does not name it."""
    found = rows.pop(_bare(image.as_posix())) or rows.pop(_bare(image.name))
    return dict(json.loads(found)[2]) if found else {}


def missing(source: Source, rows: DiskIndex) -> Iterator[SetAside]:
    """The rows that no image took out."""
    for _, row in rows.items():
        line, name, _ = json.loads(row)
        yield SetAside(f"{source.path / LABELS}:{line}", f"its image {name!r} is missing")


def _bare(name: str) -> str:
    """Without an image's suffix, as ids are: a row may name the image from which its file was made."""
    suffix = suffix_of(name)
    return name[: -len(suffix)] if suffix in IMAGE_SUFFIXES else name


def _example(source: Source, path: Path, cells: dict[str, str]) -> Example | SetAside:
    relative = path.relative_to(source.path)
    role, folders = role_and_folders(relative.parent)
    if not folders and not cells and source.image_class is None:
        return SetAside(str(path), f"in no class folder; move it into one, or give image_class or {LABELS}")
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
