"""Image folders: `class/*.jpg` or `split/class/*.jpg`, with more columns from a `labels.csv` (file, ...).

`file` is a path relative to `labels.csv` or a bare name. Its suffix, case and encoding of accents may differ
if the match is unambiguous. The column `class` names the image's class if no folder does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Self

from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.roles import IMAGE_FOLDERS, role_and_folders
from datasets_vision.formats.tables import DELIMITERS, Row, read_table
from datasets_vision.images import image_size
from datasets_vision.walk import IMAGE_SUFFIXES, folded, suffix_of, walk

LABELS = "labels.csv"

_ANNOTATIONS = frozenset({".json", ".jsonl", ".xml", ".txt", ".yaml", ".yml", ".dcm"})
_PROSE = ("readme", "license", "licence", "notice")


def matches(path: Path) -> bool:
    """Images, and no file that may have annotations of another format, such as a table beside unsorted images."""
    if labels_elsewhere(path) is not None or next(walk(path, IMAGE_SUFFIXES), None) is None:
        return False
    tables = [file.name for file in path.iterdir() if suffix_of(file.name) in DELIMITERS]
    return not tables or LABELS in tables or any(_is_sorted(path, image) for image in walk(path, IMAGE_SUFFIXES))


def _is_sorted(root: Path, image: Path) -> bool:
    """Whether an image lies in a folder that may name its class."""
    _, folders = role_and_folders(image.relative_to(root).parent)
    return bool(folders) and folders[0].lower() not in IMAGE_FOLDERS


def labels_elsewhere(path: Path) -> Path | None:
    """The first file that may contain the annotations of another format."""
    return next((file for file in walk(path, _ANNOTATIONS) if not file.name.lower().startswith(_PROSE)), None)


def read(source: Source) -> Iterator[Example | SetAside]:
    """The class is the first folder (below the split's, if there is one); the names of deeper folders are ignored.

    An image without a class folder is usable only if `image_class` finds its class or labels.csv names it.
    """
    labels = LabelTable.of(source)
    yield from labels.faults
    for path in walk(source.path):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield from or_set_aside(path, _example(source, path, labels.take(path.relative_to(source.path))))
        elif path != labels.path:
            yield SetAside(str(path), f"{path.suffix!r} is not an image suffix", "convert a photo to JPEG or PNG")
    yield from labels.unused()


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The rows of a folder's labels.csv, by the path in their column `file`; empty without that table."""

    path: Path
    rows: dict[str, Row] = field(default_factory=dict)  # those that no image has taken yet
    same_stem: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # `_stem` -> all paths with it
    present: set[str] = field(default_factory=set)  # the paths that match a file exactly, image or not
    faults: list[SetAside] = field(default_factory=list)

    @classmethod
    def of(cls, source: Source) -> Self:
        """Read the table; raises DataError if it has no column `file`, or lacks one that the source needs."""
        labels = cls(source.path / LABELS)
        if not labels.path.is_file():
            source.require_columns(source.path, source.columns.values(), ())
            return labels
        header, found = read_table(labels.path)
        source.require_columns(labels.path, {"file", *source.columns.values()}, header)
        for row in found:
            if isinstance(row, SetAside):
                labels.faults.append(row)
                continue
            name = PureWindowsPath(row.cells.pop("file").strip()).as_posix()
            if name in labels.rows:
                labels.faults.append(SetAside(f"{labels.path}:{row.line}", f"a second row for {name!r}"))
                continue
            labels.rows[name] = row
            labels.same_stem[_stem(name)].append(name)
        for file in walk(source.path):
            labels.present.update({file.relative_to(source.path).as_posix(), file.name} & labels.rows.keys())
        return labels

    def take(self, image: Path) -> dict[str, str]:
        """Remove the row of an image and return its cells; {} if the table does not name the image.

        A row with another suffix or spelling matches if no other row has its stem and no file has the row's exact name.
        """
        names = (image.as_posix(), image.name)
        stems = [self.same_stem.get(_stem(name), []) for name in names]
        others = [stem[0] for stem in stems if len(stem) == 1 and stem[0] not in self.present]
        row = next((self.rows.pop(name) for name in (*names, *others) if name in self.rows), None)
        return row.cells if row else {}

    def unused(self) -> Iterator[SetAside]:
        """Set aside the rows that no image has taken."""
        for name, row in self.rows.items():
            yield SetAside(f"{self.path}:{row.line}", f"its image {name!r} is missing", about="image")


def _stem(name: str) -> str:
    """A name, folded, without its image suffix: a row may name the file from which the image was converted."""
    suffix = suffix_of(name)
    return folded(name[: -len(suffix)] if suffix in IMAGE_SUFFIXES else name)


def class_and_role(source: Source, path: Path, cells: dict[str, str]) -> tuple[str | None, str | None]:
    """The class by a file's first folder, or by its cell `class`, and the role that a split's folder states.

    Raises DataError if nothing can state the class.
    """
    role, folders = role_and_folders(path.relative_to(source.path).parent)
    if not folders and not cells and source.image_class is None:
        split = f", as {path.parent.name!r} names a split" if role else ""
        remedy = f"{'rename that if it is a class, ' if role else ''}move it into one, or give image_class or {LABELS}"
        raise DataError(path, f"not in a class folder{split}", remedy)
    return folders[0] if folders else cells.pop("class", "") or None, role


def _example(source: Source, path: Path, cells: dict[str, str]) -> Iterator[Example]:
    image_class, role = class_and_role(source, path, cells)
    image_size(path)
    yield Example.of_photo(path, source.path, Label(image_class, columns=cells), path, role)
