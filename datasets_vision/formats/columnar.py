"""Turn rows of Arrow columns, as in Parquet files and Hugging Face data sets, into drafts."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from datasets_vision.embedded import cached_image
from datasets_vision.errors import DataError
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.drafts import Draft, named_image
from datasets_vision.images import image_size

_LISTS = frozenset({"Sequence", "List", "LargeList"})


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known about the columns of one file before its rows are read; paths of photos are relative to `file`."""

    file: Path
    names: tuple[str, ...]
    photos: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]  # column -> class names by number

    @classmethod
    def of(cls, source: Source, file: Path, names: tuple[str, ...], features: Mapping[str, Any]) -> Self:
        """From features in the form of `datasets.Features.to_dict()`; {} if there are none.

        Photos are in the columns of type Image, or in the one that `Source.image` names.
        """
        photos = tuple(name for name in names if _is_photo(features.get(name)))
        classes = {name: _class_names(features.get(name)) for name in names}
        return cls(
            file,
            names,
            photos if source.image is None else (source.image,),
            {name: words for name, words in classes.items() if words},
        )

    def draft(self, values: Mapping[str, Any], row: str, place: str) -> Draft | SetAside:
        """The draft of one row, given as values by column; a photo is {bytes, path}, bytes or a path.

        If there are photos and exactly one column of class labels, that is the image class; otherwise class labels are
        columns of class names.
        """
        try:
            photos = tuple(photo for column in self.photos for photo in self._photos_in(values.get(column)))
            cells = {name: self._cell(name, values.get(name)) for name in self.names if name not in self.photos}
        except DataError as error:
            return SetAside.of(place, error)
        if not self.photos or len(self.classes) != 1:
            return Draft(row, place, cells, photos=photos)
        (column,) = self.classes
        image_class = cells.pop(column)
        return Draft(row, place, cells, {column: image_class}, photos=photos, image_class=image_class or None)

    def _photos_in(self, value: Any) -> Iterator[Path]:
        """The photos in a cell; only their headers are read."""
        for given in value if isinstance(value, list) else [value]:
            if isinstance(given, Mapping):
                given = given.get("bytes") or given.get("path")
            if isinstance(given, bytes) and given:
                path = cached_image(given)
                image_size(path)
                yield path
            elif isinstance(given, str | None):
                yield named_image(self.file, given or "")
            else:
                raise DataError(
                    "", f"a photo must be bytes or a path, not {type(given).__name__}", "check the image option"
                )

    def _cell(self, column: str, value: Any) -> Any:
        """A value as JSON, "" if it is missing; a class label by its name."""
        if column not in self.classes or not isinstance(value, int):
            cell = _plain(value)
            return "" if cell is None else cell
        names = self.classes[column]
        if value == -1:  # how `datasets` marks a missing label
            return ""
        if not 0 <= value < len(names):
            raise DataError(column, f"no class has the number {value}", f"there are {len(names)} classes")
        return names[value]


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
