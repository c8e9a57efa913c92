"""YOLO: one text file per image with `class x y width height` or `class x1 y1 x2 y2 ...`, normalised to the image.

An image's labels are beside it, or at its path with `labels` instead of `images`. The names of the classes are in a
YAML file (`names`, as a list or by number), classes.txt or *.names; without one, a class is named by its number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datasets_vision.errors import BoxError, DataError
from datasets_vision.example import Example, Label, LabelledObject
from datasets_vision.formats.annotation_files import unread_photos
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.roles import role_of_folders
from datasets_vision.formats.shapes import Annotation, Size, excerpt, read_objects
from datasets_vision.formats.text_files import head_of, read_text
from datasets_vision.images import image_size
from datasets_vision.walk import IMAGE_SUFFIXES, UNREAD_SUFFIXES, found_as, walk

MAX_BYTES = 4 << 20
"""Bytes of a label file or a list of names; a larger file is rejected unread."""

_NAMES = ("classes.txt", "obj.names", "_darknet.labels")
_MAX_SAMPLED = 32  # label files read to recognise the format
_ROLES = ("train", "val", "test")  # keys of a YAML file


@dataclass(frozen=True, slots=True)
class _Set:
    root: Path
    names: dict[int, str] | None  # None if no file has them
    roles: dict[str, str]  # a folder or image, relative to the root -> the role that the YAML file gives it


def matches(path: Path) -> bool:
    """A folder with a YAML file of class `names`, or with label files that have an image."""
    if any(map(_names_classes, _yaml_files(path))):
        return True
    if next(_label_files(path), None) is None:
        return False
    labels = (_labels_of(path, image) for image in walk(path, IMAGE_SUFFIXES))
    return any(map(_starts_with_row, islice(filter(None, labels), _MAX_SAMPLED)))


def read(source: Source) -> Iterator[Example | SetAside]:
    """An empty label file means that there are no objects; an image without one is set aside.

    The role is the split that the image's folders name, else the role that the YAML file gives it or its folder.
    """
    data_set, used = _set(source.path), set[Path]()
    if next(walk(data_set.root, IMAGE_SUFFIXES | UNREAD_SUFFIXES | {".txt"}), None) is None:
        raise DataError(source.path, "contains neither images nor labels", "give the folder that contains them")
    for image in walk(data_set.root, IMAGE_SUFFIXES):
        if labels := _labels_of(data_set.root, image):
            used.add(labels)
            yield from _read_image(data_set, image, labels)
        else:
            remedy = "write an empty one if there is nothing to find"
            yield SetAside(str(image), "no label file for this image", remedy)
    yield from unread_photos(data_set.root)
    for labels in _label_files(data_set.root):
        if labels not in used and _starts_with_row(labels):
            yield SetAside(str(labels), "its image is missing", "put it beside this, or into images", about="image")


def _label_files(root: Path) -> Iterator[Path]:
    return (file for file in walk(root, {".txt"}) if file.name.lower() not in _NAMES)


def _starts_with_row(file: Path) -> bool:
    """Whether the first line with words is a class number and at least four normalised coordinates."""
    lines = head_of(file, 4096).splitlines()
    words = next((line.split() for line in lines if line.strip()), [])
    if len(words) < 5 or not words[0].isdecimal():
        return False
    try:
        return all(-1 <= float(word) <= 2 for word in words[1:5])
    except ValueError:
        return False


def _labels_of(root: Path, image: Path) -> Path | None:
    """The label file of an image: where the last folder called `images` is replaced by `labels`, else beside it."""
    name, parts = f"{image.stem}.txt", image.parent.relative_to(root).parts
    depth = next((depth for depth in reversed(range(len(parts))) if parts[depth].lower() == "images"), None)
    parallel = [] if depth is None else [root.joinpath(*parts[:depth], "labels", *parts[depth + 1 :], name)]
    return next(filter(None, map(found_as, (*parallel, image.with_name(name)))), None)


def _read_image(data_set: _Set, image: Path, path: Path) -> Iterator[Example | SetAside]:
    try:
        size = image_size(image)
        lines = _lines(path)
    except DataError as error:
        yield SetAside.of(error.place, error)
        return
    first: dict[str, str] = {}  # line -> the place where it first occurs
    rows = ((f"{path}:{number}", line.split()) for number, line in enumerate(lines, 1) if line.strip())
    objects, faults = read_objects(rows, lambda place, words: _object(data_set, place, words, size, first))
    yield from faults
    yield Example(
        id=image.relative_to(data_set.root).with_suffix("").as_posix(),
        images=(image,),
        label=Label(objects=objects),
        source=str(path),
        role=_role(data_set, image),
    )


def _lines(path: Path) -> list[str]:
    return read_text(path, MAX_BYTES).splitlines()


def _object(data_set: _Set, place: str, words: list[str], size: Size, first: dict[str, str]) -> LabelledObject:
    twin = first.setdefault(" ".join(words), place)
    if twin != place:
        raise DataError(place, f"duplicate of {twin}")
    annotation = Annotation(place, _name(data_set, place, words[0]), size, {})
    row = annotation.numbers("row", words[1:])
    if len(row) == 4:
        x, y, width, height = (value * size[index % 2] for index, value in enumerate(row))
        return annotation.box((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(row) < 6 or len(row) % 2:
        remedy = "give 4 for a box, or an even number of at least 6 for a polygon"
        raise BoxError(place, f"{len(row)} numbers follow the class", remedy)
    return annotation.polygon([(x * size[0], y * size[1]) for x, y in zip(row[::2], row[1::2], strict=True)])


def _name(data_set: _Set, place: str, word: str) -> str:
    if not re.fullmatch(r"[0-9]{1,9}(\.0*)?", word):
        raise DataError(place, f"{word[:40]!r} is not a class", "begin the line with the number of a class")
    number = int(float(word))
    if data_set.names is None:
        return str(number)
    if number not in data_set.names:
        raise DataError(
            place, f"class {number} has no name", f"the file of names has {excerpt(sorted(data_set.names))}"
        )
    return data_set.names[number]


def _role(data_set: _Set, image: Path) -> str | None:
    place = image.relative_to(data_set.root)
    listed = (data_set.roles[str(path)] for path in (place, *place.parents) if str(path) in data_set.roles)
    return role_of_folders(place.parent) or next(listed, None)


def _set(root: Path) -> _Set:
    """The set with names and folders from the YAML file nearest to the root, else from a file with a name per line."""
    for file in _yaml_files(root):
        content = _yaml(file)
        if content and "names" in content:
            return _Set(root, _names_by_number(file, content["names"]), _roles(root, file, content))
    for file in walk(root):
        if file.name.lower() in _NAMES or file.suffix.lower() == ".names":
            names = [line.strip() for line in _lines(file) if line.strip()]
            return _Set(root, dict(enumerate(names)), {})
    return _Set(root, None, {})


def _yaml_files(root: Path) -> list[Path]:
    """The YAML files in the folder and its direct subfolders, those with a usual name first."""
    found = [file for pattern in ("*.y*ml", "*/*.y*ml") for file in sorted(root.glob(pattern)) if file.is_file()]
    return sorted(found, key=lambda file: (len(file.parts), file.stem not in ("data", "dataset")))


def _names_classes(file: Path) -> bool:
    """Whether a YAML file names classes, and where their images are."""
    try:
        content = _yaml(file) or {}
    except DataError:
        return False
    return "names" in content and any(key in content for key in (*_ROLES, "nc", "path"))


def _yaml(file: Path) -> dict[str, Any] | None:
    import yaml

    try:
        content = yaml.safe_load("\n".join(_lines(file)))
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else str(file)
        problem = " ".join(str(getattr(error, "problem", error)).split())[:200]
        raise DataError(place, f"not YAML: {problem}", "correct the line") from error
    return content if isinstance(content, dict) else None


def _names_by_number(file: Path, names: Any) -> dict[int, str]:
    """Names by class number, from a list or a mapping."""
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict) or not listed:
        raise DataError(file, "names is neither a list nor a mapping of numbers to names", "write names: [dent, crack]")
    found = {}
    for key, name in listed.items():
        number = str(key)[:40]
        if not str(key).isdecimal():
            raise DataError(file, f"names has the key {number!r}, which is not a class number", 'write 0: "dent"')
        if isinstance(name, bool | list | dict) or name is None:
            raise DataError(file, f"the name of class {number} is a {type(name).__name__}", "put each name in quotes")
        found[int(key)] = str(name).strip()
    return found


def _roles(root: Path, file: Path, content: dict[str, Any]) -> dict[str, str]:
    """The roles of image folders and of the images in lists (.txt), by path relative to the root.

    The paths in the YAML file are relative to its `path`, to its folder or to the root, those in a list to the list or
    to one of these.
    """
    stated = content.get("path")
    bases = [file.parent / stated, root / stated] if isinstance(stated, str) else []
    found: dict[str, str] = {}
    for role in _ROLES:
        given = content.get(role)
        for name in filter(lambda name: isinstance(name, str), given if isinstance(given, list) else [given]):
            for place in (base / name for base in (*bases, file.parent, root)):
                inside = os.path.relpath(place, root)
                if os.path.isdir(place):
                    found[inside] = role
                elif inside.endswith(".txt") and not inside.startswith("..") and os.path.isfile(place):
                    paths = [line.strip() for line in _lines(place) if line.strip()]
                    folders = (place.parent, *bases, root)
                    found |= {os.path.relpath(base / path, root): role for path in paths for base in folders}
    found.pop(".", None)
    return found
