"""Turn rows of Arrow columns, as in Parquet files and Hugging Face data sets, into examples."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from datasets_vision.embedded import kept
from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, Turn
from datasets_vision.formats.contract import FOLDER, SetAside, Source
from datasets_vision.formats.drafts import image_at
from datasets_vision.images import image_size

_LISTS = frozenset({"Sequence", "List", "LargeList"})


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known about a data set's columns before its rows are read."""

    names: tuple[str, ...]
    photos: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> class names by number

    @classmethod
    def of(cls, names: tuple[str, ...], features: Mapping[str, Any]) -> Self:
        """From features in the form of `datasets.Features.to_dict()`; {} if there are none."""
        photos = tuple(name for name in names if _is_photo(features.get(name)))
        classes = {name: _class_names(features.get(name)) for name in names}
        return cls(names, photos, {name: words for name, words in classes.items() if words})


def _is_photo(feature: Any) -> bool:
    if isinstance(feature, list):  # an older way to write a sequence
        return len(feature) == 1 and _is_photo(feature[0])
    if not isinstance(feature, Mapping):
        return False
    kind = str(feature.get("_type"))
    return kind == "Image" or (kind in _LISTS and _is_photo(feature.get("feature")))


def _class_names(feature: Any) -> tuple[str, ...]:
    if not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        return ()
    names = feature.get("names")
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


class RowReader:
    """Turns the rows of one file into examples.

    Photos come from the columns of type Image, or from the one that `Source.image` names; paths are relative to
    `file`. If there are photos and exactly one column of class labels, that is the image class; otherwise class
    labels are columns of class names.
    """

    def __init__(self, source: Source, file: Path, columns: Columns) -> None:
        """Raises DataError if the file lacks a column that the source needs, or has two of the same name."""
        twice = next((name for name in columns.names if columns.names.count(name) > 1), None)
        if twice is not None:
            raise DataError(file, f"two columns named {twice!r}", "rename one")
        self._source, self._file, self._columns = source, file, columns
        self._photos = columns.photos if source.image is None else (source.image,)
        self._folder = file.resolve().parent.name
        asked = source.shown() | set(source.columns.values()) | set(self._photos)
        if self._photos and "text" not in source.model_fields_set and "text" not in columns.names:
            asked.discard("text")
        source.require_columns(file, asked, {*columns.names, FOLDER})
        self._class = next(iter(columns.classes)) if self._photos and len(columns.classes) == 1 else None
        hidden = {*self._photos, self._class} | (set() if source.columns else source.shown())
        hidden -= {*source.columns.values(), source.group_by}
        self._kept = [name for name in (*columns.names, FOLDER) if name not in hidden]

    def example(self, values: Mapping[str, Any], name: str, place: str, role: str | None) -> Example | SetAside:
        """The example of one row; `values` are by column, and a photo is {bytes, path}, bytes or a path."""
        try:
            images = tuple(photo for column in self._photos for photo in self._photos_in(values.get(column)))
            cells = {column: self._cell(column, values.get(column)) for column in self._columns.names}
        except DataError as error:
            return SetAside.of(place, error)
        cells[FOLDER] = self._folder
        text = self._source.render({column: "" if cell is None else cell for column, cell in cells.items()})
        if not text and not images:
            return SetAside(place, f"no text in {self._source.text!r} and no photo", "fill in one of them")
        return Example(
            id=name,
            turns=(Turn("user", text),) if text else (),
            images=images,
            label=Label(
                image_class=cells[self._class] if self._class else None,
                columns={column: cells[column] for column in self._kept if cells[column] is not None},
            ),
            source=place,
            role=role,
        )

    def _photos_in(self, value: Any) -> Iterator[Path]:
        """The photos in a cell; only their headers are read."""
        for given in value if isinstance(value, list) else [value]:
            if isinstance(given, Mapping):
                given = given.get("bytes") or given.get("path")
            if isinstance(given, bytes) and given:
                path = kept(given)
                image_size(path)
                yield path
            elif isinstance(given, str | None):
                yield image_at(self._file, given or "")
            else:
                raise DataError("", f"a photo is bytes or a path, not {type(given).__name__}", "check the image option")

    def _cell(self, column: str, value: Any) -> Any:
        if column in self._photos or value is None:
            return None
        if column not in self._columns.classes or not isinstance(value, int):
            return _plain(value)
        names = self._columns.classes[column]
        if value == -1:  # how `datasets` marks a missing label
            return None
        if not 0 <= value < len(names):
            raise DataError(column, f"no class has the number {value}", f"there are {len(names)} classes")
        return names[value]


def _plain(value: Any) -> Any:
    """A value as JSON: dates as ISO text, lists and dictionaries recursively, bytes and NaN as None."""
    match value:
        case float() if math.isnan(value):
            return None
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return None
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Mapping():
            return {str(key): _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    return str(value)
